/**
 * Wavegate: a WebGPU compute engine with hand-written kernels, and on it speech emotion recognition from speech alone.
 *
 * Legend of every shape in this project: B batch, T time, C channels, H heads, D head size, V vocabulary, S label
 * length; N = rows after flattening; U frames where T is subwords.
 *
 * The examples of these pages take every name from this module, `const host = await currentHost()` and `const device =
 * await openDevice(host)`. The comment behind a console.log() is what it prints, numbers to four digits.
 *
 * @module
 */
export * from "./host/mod.ts";
export * from "./gpu/mod.ts";
export * from "./tensor/mod.ts";
/** All operators; the module `wavegate/ops` has their pages. */
export * as ops from "./ops/mod.ts";
export * from "./nn/mod.ts";
export * from "./train/mod.ts";
export * from "./io/mod.ts";
export * from "./hub/mod.ts";
export * from "./models/mod.ts";
export * from "./speech/mod.ts";
