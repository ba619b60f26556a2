/** HTML pages in one file: they ask for nothing from elsewhere, and what their bodies say needs no script. */
import { checkoutText } from "../host/checkout.ts";
import { PAGE_FILES, type PageFile } from "./files.ts";
import { PAGE_TEXTS } from "./texts.ts";

/** Content of pageDocument(). */
export interface Page {
  /** Plain text. */
  readonly title: string;
  /** HTML. */
  readonly body: string;
  /** What the script reads as `wavegatePage.data`: JSON. */
  readonly data: unknown;
  /** The page's own style and script, see tools.ts. */
  readonly css: PageFile;
  readonly script: PageFile;
}

/** A page with its style, its data, uPlot and its scripts. Throws an Error in a bundle of the sources, which leaves these behind. */
export function pageDocument({ title, body, data, css, script: own }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${text("plotCss")}${text("css")}${text(css)}</style>
</head>
<body>
${body}
<div id="tip" role="tooltip" hidden></div>
<script type="application/json" id="data">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
<script>/*
${text("plotLicense").trim().replaceAll("*/", "* /")}
*/
${script("plot")}</script>
<script>${script("script")}${script(own)}</script>
</body>
</html>
`;
}

function text(name: PageFile): string {
  const found = PAGE_TEXTS[name] ?? checkoutText(new URL(`../../${PAGE_FILES[name]}`, import.meta.url));
  if (found === undefined)
    throw new Error(
      `Cannot make a page: ${PAGE_FILES[name]} is not there, a checkout with its npm packages or the built package expected`,
    );
  return found;
}

/** A script that does not end the element which it stands in. */
const script = (name: PageFile): string => text(name).replaceAll("</script", "<\\/script");

/** Text in HTML, and in the quotes of an attribute. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
