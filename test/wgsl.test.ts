import assert from "node:assert/strict";
import { test } from "node:test";
import { excerpt, expand as expandKernel, type Flags, outputsOf, reflect } from "../src/gpu/wgsl.ts";

const library = (files: Record<string, string>) => new Map(Object.entries(files));
const expand = (source: string, flags: Flags, files: Map<string, string>) =>
  expandKernel(source, flags, files, "k");
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
    message: `Cannot expand kernel k: #include "lib/x.wgsl" names no file in the package's kernels/`,
  });
  const endless = library({ "a.wgsl": '#include "a.wgsl"' });
  assert.throws(() => expand('#include "a.wgsl"', {}, endless), {
    message: "Cannot expand kernel k: #include nests more than 8 deep",
  });
});

test("expand() fills in values and chooses branches, nested ones too", () => {
  const source = `#if \${a}\nA\n#if \${b}\nAB\n#else\nA-\n#endif\n#else\n-\n#endif\nvec\${n}<\${T}>`;
  const text = (a: boolean, b: boolean) => lines(expand(source, { a, b, n: 4, T: "f16" }, library({})));
  assert.deepEqual(text(true, true), ["A", "AB", "vec4<f16>"]);
  assert.deepEqual(text(true, false), ["A", "A-", "vec4<f16>"]);
  assert.deepEqual(text(false, true), ["-", "vec4<f16>"]);
});

test("expand() refuses an #include that is written in another way", () => {
  assert.throws(() => expand("#include <lib/x.wgsl>", {}, library({})), {
    message:
      'Cannot expand kernel k: #include <lib/x.wgsl> should be #include "lib/NAME.wgsl" on a line of its own',
  });
});

test("expand() refuses a placeholder without a value, and a value that nothing names", () => {
  assert.throws(() => expand(`let a = \${T};`, { W: "f32", vec: true }, library({})), {
    message: `Cannot expand kernel k: \${T} has no value (given: W, vec)`,
  });
  assert.throws(() => expand(`let a = \${T};\n#unroll i N\n#endunroll`, { T: 1, N: 2, n: 2 }, library({})), {
    message: "Cannot expand kernel k: it has no flag n (it has: T, N)",
  });
});

test("expand() names the kernel whose #if has no end", () => {
  assert.throws(() => expand(`#if \${T}\nlet a = 1;`, { T: true }, library({})), {
    message: "Cannot expand kernel k: Mismatched #if/#endif count",
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
    message: "Cannot expand kernel k: #unroll i COUNT is no whole number",
  });
});

const bindings = `
    struct Dims { N: u32, start: i32,
      alpha: f32 }
    @group(0) @binding(3) var<storage, read> x: array<vec4<f16>>;
    @binding(0) @group(0)
    var<storage,read_write> y : array<f32>;
    @group(0) @binding(4) var<storage> z: array<f32>;
    @group(0) @binding(1) var<uniform> d: Dims;
    var<workgroup> tile: array<f32, 8>;`;

test("reflect() reads bindings, the fields of Dims in order, entry points and overrides", () => {
  const face = reflect(
    `${bindings}
    override WG: u32 = 8;
    @id(7) override alpha: f32;
    fn helper() {}
    @compute @workgroup_size(WG) fn forward() {}
    @workgroup_size(8, 8) @compute
    fn backward() {}`,
    "k",
  );
  assert.deepEqual(face, {
    bindings: [
      { name: "x", binding: 3, access: "read", element: "f16" },
      { name: "y", binding: 0, access: "read_write", element: "f32" },
      { name: "z", binding: 4, access: "read", element: "f32" },
      { name: "d", binding: 1, access: "uniform", element: undefined },
    ],
    dims: [
      { name: "N", type: "u32" },
      { name: "start", type: "i32" },
      { name: "alpha", type: "f32" },
    ],
    entries: ["forward", "backward"],
    overrides: new Map([
      ["WG", { id: "WG", type: "u32" }],
      ["alpha", { id: "7", type: "f32" }],
    ]),
  });
});

test("reflect() finds the number that a buffer is made of", () => {
  const elements: Record<string, string | undefined> = {
    "array<f32>": "f32",
    "array<vec3i, 5>": "i32",
    "array< vec4<u32> >": "u32",
    "array<mat4x4<f32>, N,>": "f32",
    "array<vec2h>": "f16",
    "array<atomic<u32>>": "u32",
    vec4f: "f32",
    E: "f32",
    "array<E>": "f32",
    "array<Bits>": undefined,
    "array<Pair>": undefined,
  };
  const aliases = "alias E = vec4f; alias Bits = u32; struct Pair { a: f32, b: u32 }\n";
  for (const [type, element] of Object.entries(elements)) {
    const { bindings } = reflect(`${aliases}@group(0) @binding(0) var<storage, read> x: ${type};`, "k");
    assert.equal(bindings[0].element, element, type);
  }
});

test("outputsOf() names the buffers that are written, in any branch", () => {
  assert.deepEqual(outputsOf(bindings), new Set(["y"]));
  const branches = `#if \${vec}
    @group(0) @binding(0) var<storage, read_write> a: array<vec4f>;
    #else
    @group(0) @binding(0) var<storage, read_write> a: array<f32>;
    #endif
    // @group(0) @binding(1) var<storage, read_write> b: array<f32>;`;
  assert.deepEqual(outputsOf(branches), new Set(["a"]));
});

test("reflect() takes a kernel without Dims", () => {
  assert.deepEqual(reflect("fn f() {}", "k"), {
    bindings: [],
    dims: [],
    entries: [],
    overrides: new Map(),
  });
});

test("reflect() refuses what the engine cannot give a kernel", () => {
  const dims = Array.from({ length: 65 }, (_, i) => `n${i}: u32`).join(", ");
  for (const [text, why] of [
    ["struct Dims { N: u32, box: vec4f }", "Dims holds box: vec4f, only u32, i32 and f32 may stand there"],
    [
      "struct Dims { N: u32, @align(16) x: f32 }",
      "Dims holds @align(16) x: f32, only u32, i32 and f32 may stand there",
    ],
    [`struct Dims { ${dims} }`, "Dims has 65 fields, at most 64 are possible"],
    ["@group(0) @binding(0) var<uniform> d: Sizes;", "uniform d is Sizes, Dims expected"],
    [
      "@group(0) @binding(0) var<uniform> d: Dims; @group(0) @binding(1) var<uniform> e: Dims;",
      "it has two uniforms, one of Dims expected",
    ],
    [
      "@group(1) @binding(0) var<storage> x: array<f32>;",
      "x is bound by @group(1) @binding(0), @group(0) @binding(NUMBER) expected",
    ],
    [
      "@group(0) @binding(0) var x: texture_2d<f32>;",
      "x is neither a storage buffer nor the uniform of Dims",
    ],
  ])
    assert.throws(() => reflect(text, "k"), { message: `Cannot use kernel k: ${why}` });
});

test("excerpt() shows the line with its neighbours and numbers", () => {
  assert.equal(excerpt("a\nb\nc\nd\ne", 3, 1), "     2 b\n>    3 c\n     4 d");
  assert.equal(excerpt("a\nb", 1, 3), ">    1 a\n     2 b");
});
