/** Shapes, and checks whose messages say what is and what should be. */

import { describeValue } from "../io/checks.ts";

/** Lengths of the axes; () is a scalar. */
export type Shape = readonly number[];

/** Throws unless `shape` is an array of lengths: whole numbers from 0 on. */
export function checkLengths(shape: Shape): void {
  if (!Array.isArray(shape))
    throw new TypeError(
      `Cannot make a tensor: its shape is ${describeValue(shape)} but should be an array of lengths`,
    );
  for (const length of shape)
    if (!(Number.isSafeInteger(length) && length >= 0))
      throw new RangeError(
        `Cannot make a tensor of shape ${showShape(shape)}: lengths should be whole numbers from 0 on`,
      );
}

export const sizeOf = (shape: Shape): number => shape.reduce((n, d) => n * d, 1);
export const showShape = (shape: Shape): string => `(${shape.join(", ")})`;
export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i]);

/** Rows after flattening every axis but the last. */
export const rowsOf = (shape: Shape): number => sizeOf(shape.slice(0, -1));

/** Throws unless `shape` matches `wanted`, in which -1 stands for any length. */
export function checkShape(op: string, name: string, shape: Shape, wanted: Shape): void {
  if (shape.length !== wanted.length || wanted.some((d, i) => d !== -1 && d !== shape[i])) {
    const want = `(${wanted.map((d) => (d === -1 ? "any" : d)).join(", ")})`;
    throw new TypeError(`Cannot run ${op}: ${name} is ${showShape(shape)} but should be ${want}`);
  }
}
