/** Bytes of safetensors files, put together by hand. */

export const utf8 = (text: string) => new TextEncoder().encode(text);

/** A file with the given header and `size` bytes 0, 1, 2… behind it. `length` lies about the header. */
export function raw(header: string | Uint8Array, size = 0, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? utf8(header) : header;
  const bytes = new Uint8Array(8 + text.length + size);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  for (let i = 0; i < size; i++) bytes[8 + text.length + i] = i;
  return bytes;
}

/** What a header says of a tensor. */
export const entry = (dtype: string, shape: unknown, offsets: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });
/** Bytes of an element. */
export const width = (dtype: string) => ({ F32: 4, F16: 2, I64: 8 })[dtype] ?? 1;
