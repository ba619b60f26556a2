/** What the HTML page of a profile is made of besides its figures: paths from the root of a checkout. */
export const PAGE_FILES = {
  css: "src/profile/page.css",
  script: "src/profile/page_client.js",
  plot: "node_modules/uplot/dist/uPlot.iife.min.js",
  plotCss: "node_modules/uplot/dist/uPlot.min.css",
  plotLicense: "node_modules/uplot/LICENSE",
} as const;

export type PageFile = keyof typeof PAGE_FILES;
