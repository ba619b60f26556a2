/** What HTML pages are made of besides their figures: paths from the root of a checkout. */
export const PAGE_FILES = {
  css: "src/page/page.css",
  script: "src/page/client.js",
  profileCss: "src/profile/page.css",
  profileScript: "src/profile/page_client.js",
  crossvalidateCss: "src/speech/crossvalidate/page.css",
  crossvalidateScript: "src/speech/crossvalidate/page_client.js",
  recordingCss: "src/speech/predict/page.css",
  recordingScript: "src/speech/predict/page_client.js",
  plot: "node_modules/uplot/dist/uPlot.iife.min.js",
  plotCss: "node_modules/uplot/dist/uPlot.min.css",
  plotLicense: "node_modules/uplot/LICENSE",
} as const;

export type PageFile = keyof typeof PAGE_FILES;
