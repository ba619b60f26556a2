/** The models that come with the package. */
export { boxed } from "../src/host/box.ts";
