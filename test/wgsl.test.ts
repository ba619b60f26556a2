import assert from "node:assert/strict";
import { test } from "node:test";
import { excerpt, expand, reflect } from "../src/gpu/wgsl.ts";

const library = (files: Record<string, string>) => new Map(Object.entries(files));
const lines = (text: string) =>
  text
    .split("\n")
    .map((l) => l.trim())
    .filter(Boolean);

test("expand() takes comments out, so that directives inside them do nothing", () => {
  const text = expand(`let a = 1; // #else\n/* #if \${x} */ let b = 2;\n`, {}, library({}));
  assert.deepEqual(lines(text), ["let a = 1;", "let b = 2;"]);
});

test("expand() puts included files in, and files that these include", () => {
  const files = library({
    "lib/a.wgsl": 'let a = 1; // a\n#include "lib/b.wgsl"\n',
    "lib/b.wgsl": `let b = \${n};`,
  });
  assert.deepEqual(lines(expand('#include "lib/a.wgsl"\nlet c = 3;', { n: 2 }, files)), [
    "let a = 1;",
    "let b = 2;",
    "let c = 3;",
  ]);
});

test("expand() refuses files that are not there or include themselves", () => {
  assert.throws(() => expand('#include "lib/x.wgsl"', {}, library({})), {
    message: 'Cannot expand WGSL: #include "lib/x.wgsl" names no file in kernels/',
  });
  const endless = library({ "a.wgsl": '#include "a.wgsl"' });
  assert.throws(() => expand('#include "a.wgsl"', {}, endless), {
    message: "Cannot expand WGSL: #include nests more than 8 deep",
  });
});

test("expand() fills in values and chooses branches, nested ones too", () => {
  const source = `#if \${a}\nA\n#if \${b}\nAB\n#else\nA-\n#endif\n#else\n-\n#endif\nvec\${n}<\${T}>`;
  const text = (a: boolean, b: boolean) => lines(expand(source, { a, b, n: 4, T: "f16" }, library({})));
  assert.deepEqual(text(true, true), ["A", "AB", "vec4<f16>"]);
  assert.deepEqual(text(true, false), ["A", "A-", "vec4<f16>"]);
  assert.deepEqual(text(false, true), ["-", "vec4<f16>"]);
});

test("expand() refuses a placeholder without a value", () => {
  assert.throws(() => expand(`let a = \${T};`, { W: "f32", vec: true }, library({})), {
    message: `Cannot expand WGSL: \${T} has no value (given: W, vec)`,
  });
});

test("expand() repeats unrolled lines, with numbers, suffixes and blocks inside blocks", () => {
  const source = [
    "#unroll i 2",
    "a[$i] = $iu;",
    "#unroll j N",
    `b$i[$i * \${W} + $j] = r$j;`,
    "#endunroll",
    "#endunroll",
  ];
  assert.deepEqual(lines(expand(source.join("\n"), { N: 2, W: 8 }, library({}))), [
    "a[0] = 0u;",
    "b0[0 * 8 + 0] = r0;",
    "b0[0 * 8 + 1] = r1;",
    "a[1] = 1u;",
    "b1[1 * 8 + 0] = r0;",
    "b1[1 * 8 + 1] = r1;",
  ]);
  assert.deepEqual(lines(expand("#unroll i 0\nx\n#endunroll\ny", {}, library({}))), ["y"]);
});

test("expand() refuses a count that is no whole number", () => {
  assert.throws(() => expand("#unroll i COUNT\nx\n#endunroll\n", {}, library({})), {
    message: "Cannot expand WGSL: #unroll i COUNT is no whole number",
  });
});

test("reflect() reads bindings with their access, and the fields of Dims in order", () => {
  const face = reflect(`
    struct Dims { N: u32, start: i32,
      alpha: f32 }
    @group(0) @binding(3) var<storage, read> x: array<vec4<f16>>;
    @group(0)  @binding(0)
    var<storage,read_write> y : array<f32>;
    @group(0) @binding(1) var<uniform> d: Dims;
    var<workgroup> tile: array<f32, 8>;`);
  assert.deepEqual(face, {
    bindings: [
      { name: "x", binding: 3, access: "read" },
      { name: "y", binding: 0, access: "read_write" },
      { name: "d", binding: 1, access: "uniform" },
    ],
    dims: [
      { name: "N", type: "u32" },
      { name: "start", type: "i32" },
      { name: "alpha", type: "f32" },
    ],
  });
});

test("reflect() takes a kernel without Dims, and refuses Dims that are not scalars", () => {
  assert.deepEqual(reflect("fn f() {}"), { bindings: [], dims: [] });
  assert.throws(() => reflect("struct Dims { N: u32, box: vec4f }"), {
    message: "Cannot lay out Dims: box is vec4f, only scalars may stand there",
  });
});

test("excerpt() shows the line with its neighbours and numbers", () => {
  assert.equal(excerpt("a\nb\nc\nd\ne", 3, 1), "     2 b\n>    3 c\n     4 d");
  assert.equal(excerpt("a\nb", 1, 3), ">    1 a\n     2 b");
});
