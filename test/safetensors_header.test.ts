/** Headers of safetensors files that are not as they should be. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { entry, raw } from "./safetensors_fixture.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "safetensors-test-"));
after(() => rmSync(folder, { recursive: true }));

const one = (text: string, size = 8) => raw(`{"w":${text}}`, size);
/** `count` members "0":value, "1":value, … */
const many = (count: number, value: string) =>
  Array.from({ length: count }, (_, i) => `"${i}":${value}`).join();
const deep = `{"w":${"[".repeat(200)}${"]".repeat(200)}}`;

const HOSTILE: Record<string, [Uint8Array, string]> = {
  "an empty file": [new Uint8Array(0), "the file is 0 bytes, at least 8 for the header length expected"],
  "a cut header length": [
    new Uint8Array(7),
    "the file is 7 bytes, at least 8 for the header length expected",
  ],
  "a header of no bytes": [raw(""), "the header is empty, expected '{'"],
  "a header beyond 100 MB": [
    raw("{}", 0, 100_000_001n),
    "the header is 100000001 bytes, at most 100000000 are allowed",
  ],
  "a header length of 2^64 - 1": [
    raw("{}", 0, 2n ** 64n - 1n),
    "the header is 18446744073709551615 bytes, at most 100000000 are allowed",
  ],
  "a header longer than the file": [raw("{}", 0, 3n), "the header is 3 bytes, but only 2 follow its length"],
  "a header that does not begin with a brace": [raw(" {}"), "the header begins with byte 0x20, expected '{'"],
  "a zip file": [raw("PK"), "the header begins with byte 0x50, expected '{'"],
  "a header that is not UTF-8": [raw(Uint8Array.of(0x7b, 0xff, 0x7d)), "the header is not valid UTF-8"],
  "an unfinished header": [
    raw('{"w":'),
    "the header is not valid JSON, line 1, column 6: expected a value but found the end",
  ],
  "a header with a trailing comma": [
    raw('{"w":1,}'),
    "the header is not valid JSON, line 1, column 8: expected a key in quotes but found '}'",
  ],
  "something behind the header's object": [
    raw("{} x"),
    "the header is not valid JSON, line 1, column 4: expected the end but found 'x'",
  ],
  "zero bytes as padding": [
    raw("{}\0"),
    "the header is not valid JSON, line 1, column 3: expected the end but found '\\u0000'",
  ],
  "a header of 200 levels": [
    raw(deep),
    "the header is not valid JSON, line 1, column 106: more than 100 levels",
  ],
  "a tensor named twice": [
    raw(`{"w":${entry("U8", [8], [0, 8])},"w":${entry("U8", [8], [0, 8])}}`, 8),
    'the header is not valid JSON, line 1, column 54: key "w" stands twice in one object',
  ],
  "a tensor named twice through an escape": [
    raw(`{"w":1,"\\u0077":2}`),
    'the header is not valid JSON, line 1, column 8: key "w" stands twice in one object',
  ],
  "a field given twice": [
    one('{"dtype":"U8","dtype":"F32","shape":[8],"data_offsets":[0,8]}'),
    'the header is not valid JSON, line 1, column 20: key "dtype" stands twice in one object',
  ],
  "a metadata key given twice": [
    raw('{"__metadata__":{"a":"1","a":"2"}}'),
    'the header is not valid JSON, line 1, column 26: key "a" stands twice in one object',
  ],
  "a tensor that is a million empty lists": [
    one(`[${"[],".repeat(1e6)}[]]`),
    'tensor "w" holds more than 999 values',
  ],
  "a shape of a million extents": [
    one(`{"dtype":"F32","shape":[${"1,".repeat(1e6)}2],"data_offsets":[0,8]}`),
    'tensor "w" holds more than 999 values',
  ],
  "metadata of 100,000 keys": [
    raw(`{"__metadata__":{${many(100_000, '""')}}}`),
    "__metadata__ holds more than 99999 values",
  ],
  "a long list with a comma too many behind a wrong tensor": [
    raw(`{"v":1,"w":[${"[],".repeat(2000)}]}`),
    "the header is not valid JSON, line 1, column 6013: expected a value but found ']'",
  ],
  "two thousand tensors that are numbers": [
    raw(`{${many(2000, "1")},`),
    'tensor "0" is 1, expected an object',
  ],
  "metadata that is not an object": [raw('{"__metadata__":[]}'), "__metadata__ is not an object"],
  "a metadata value that is a number": [
    raw('{"__metadata__":{"step":3}}'),
    '__metadata__ "step" is 3, expected a string',
  ],
  "a tensor that is a list": [one("[]"), 'tensor "w" is [], expected an object'],
  "a tensor without dtype": [
    one('{"shape":[8],"data_offsets":[0,8]}'),
    'tensor "w" has dtype absent, expected one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64',
  ],
  "an unknown dtype": [
    one(entry("F31", [2], [0, 8])),
    'tensor "w" has dtype "F31", expected one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64',
  ],
  "a shape that is a number": [
    one(entry("F32", 2, [0, 8])),
    'tensor "w" has shape 2, expected a list of integers from 0 on',
  ],
  "a negative extent": [
    one(entry("F32", [-2, -1], [0, 8])),
    'tensor "w" has shape [-2,-1], expected a list of integers from 0 on',
  ],
  "a broken extent": [
    one(entry("F32", [1.5], [0, 8])),
    'tensor "w" has shape [1.5], expected a list of integers from 0 on',
  ],
  "an extent that is a string": [
    one(entry("F32", ["2"], [0, 8])),
    'tensor "w" has shape ["2"], expected a list of integers from 0 on',
  ],
  "an extent beyond 2^53": [
    one('{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}'),
    'tensor "w" has shape [9007199254740992], expected a list of integers from 0 on',
  ],
  "a shape whose product overflows": [
    one(entry("F32", [2 ** 32, 2 ** 32], [0, 8])),
    'tensor "w" has shape [4294967296,4294967296], too large to count',
  ],
  "offsets that are absent": [
    one('{"dtype":"F32","shape":[2]}'),
    'tensor "w" has data_offsets absent, expected two integers from 0 on',
  ],
  "three offsets": [
    one(entry("F32", [2], [0, 4, 8])),
    'tensor "w" has data_offsets [0,4,8], expected two integers from 0 on',
  ],
  "a negative offset": [
    one(entry("F32", [2], [-8, 0])),
    'tensor "w" has data_offsets [-8,0], expected two integers from 0 on',
  ],
  "offsets the wrong way round": [
    one(entry("F32", [2], [8, 0])),
    'tensor "w" begins at byte 8, after its end 0',
  ],
  "a truncated buffer": [one(entry("F32", [4], [0, 16])), 'tensor "w" ends at byte 16, but the buffer has 8'],
  "too few bytes for the shape": [
    one(entry("F32", [3], [0, 8])),
    'tensor "w" has 8 bytes, but F32 [3] takes 12',
  ],
  "too many bytes for a scalar": [
    one(entry("F32", [], [0, 8])),
    'tensor "w" has 8 bytes, but F32 [] takes 4',
  ],
  "half a byte": [one(entry("F4", [15], [0, 8])), 'tensor "w" has 8 bytes, but F4 [15] takes 7.5'],
  "tensors that overlap": [
    raw(`{"a":${entry("U8", [6], [0, 6])},"b":${entry("U8", [4], [4, 8])}}`, 8),
    'tensor "b" begins at byte 4, inside "a", which ends at 6',
  ],
  "two tensors on the same bytes": [
    raw(`{"a":${entry("U8", [8], [0, 8])},"b":${entry("U8", [8], [0, 8])}}`, 8),
    'tensor "b" begins at byte 0, inside "a", which ends at 8',
  ],
  "a hole between tensors": [
    raw(`{"a":${entry("U8", [2], [0, 2])},"b":${entry("U8", [4], [4, 8])}}`, 8),
    'bytes 2 to 4 before tensor "b" belong to no tensor',
  ],
  "a hole at the start": [
    one(entry("U8", [4], [4, 8])),
    'bytes 0 to 4 before tensor "w" belong to no tensor',
  ],
  "bytes behind the last tensor": [
    one(entry("U8", [4], [0, 4])),
    "the last 4 of 8 bytes of the buffer belong to no tensor",
  ],
};

for (const [kind, [bytes, message]] of Object.entries(HOSTILE)) {
  test(`openSafetensors() refuses ${kind}`, async () => {
    const path = join(folder, "hostile.safetensors");
    writeFileSync(path, bytes);
    await assert.rejects(openSafetensors(host, path), {
      name: "SyntaxError",
      message: `Cannot read ${path}: ${message}`,
    });
  });
}
