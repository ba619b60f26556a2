import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { KERNELS } from "../src/gpu/launch.ts";
import { currentHost } from "../src/host/current.ts";
import { overBudget, worse } from "../tools/isa/budget.ts";
import { cudaPrograms, MissingError, targetEnvironment } from "../tools/isa/environment.ts";
import { type IsaOptions, type IsaReport, isa } from "../tools/isa/isa.ts";
import { fmaShare, hottestLoop, innerLoops, mixOf, readListing } from "../tools/isa/listing.ts";
import { cudaKernel } from "../tools/isa/msl.ts";
import { partsOf, readTable, shortVariants, type TargetTable, tableOf } from "../tools/isa/table.ts";
import { LISTED, targetOf, warpsPerPart } from "../tools/isa/targets.ts";
import { renewed, verb } from "../tools/isa.ts";
import { runHere } from "./verb.ts";

const folder = mkdtempSync(join(tmpdir(), "wavegate-isa-test-"));
after(() => rmSync(folder, { recursive: true }));

const here = await currentHost();
const smallest = join(folder, "smallest.wgsl");
writeFileSync(smallest, "@compute @workgroup_size(1) fn nothing() {}");
/** Why this machine cannot compile for AMD; undefined where it can. */
const cannot = await isa(here, { target: "navi31", own: { file: smallest, entries: [] } }).then(
  () => undefined,
  (error: Error) => (error instanceof MissingError ? error.message : Promise.reject(error)),
);
const compiled = { skip: cannot ?? false };

const underDeno = "Deno" in globalThis;

// Both compile by ACO, with the same registers. Products in f16 go by threads on gfx1201 alone.
for (const [target, names] of [
  ["navi31", undefined],
  ["gfx1201", ["matmul"]],
] as const)
  test(`no kernel spills, breaks its budget or loses multiply-adds on ${target}${names ? ` (${names.join()})` : ""}`, {
    skip: underDeno ? "Node compiles all of them" : compiled.skip,
  }, async () => {
    const now = tableOf(await isa(here, { target, names }));
    assert.ok(Object.keys(now.kernels).length > 50);
    assert.deepEqual([...overBudget(target, now), ...worse(target, now, readTable())], []);
  });

/** Listed targets whose compilers know no subgroup matrices. */
const WITHOUT = { gfx1201: "Mesa 25.0", bmg: "Mesa 25.0", sm_90: "SPIRV-Cross" };

test("the committed table has all kernels on all listed targets, within their budgets", () => {
  const table = readTable();
  assert.deepEqual(Object.keys(table).sort(), [...LISTED].sort());
  for (const target of LISTED) {
    const kernels = new Set(Object.keys(table[target].kernels).map((line) => line.split(".", 1)[0]));
    assert.deepEqual(
      KERNELS.filter((name) => !kernels.has(name) && !(target in WITHOUT && name === "matmul_matrices")),
      [],
      `${target} lacks kernels: run tsx tools/isa.ts --write`,
    );
    assert.deepEqual(overBudget(target, table[target]), []);
  }
});

/** A target's figures: one pipeline of a long loop. */
const figures = (
  compiler: string,
  fma: number,
  spills = 0,
  line = 'softmax.forward {"vec":true} {"WG":64}',
) => {
  const kernel = {
    use: "model",
    registers: 40,
    scratch: 0,
    shared: 0,
    instructions: 900,
    loop: 400,
  } as const;
  return { compiler, kernels: { [line]: { ...kernel, fma, spills } } } satisfies TargetTable;
};

test("budgets say what spills, what lost multiply-adds and what is not in the table", () => {
  assert.deepEqual(overBudget("navi31", figures("a", 50)), []);
  assert.deepEqual(overBudget("navi31", figures("a", 50, 3)), [
    'navi31: softmax.forward {"vec":true} {"WG":64} spills 3 registers, none expected',
  ]);
  assert.deepEqual(overBudget("navi31", figures("a", 10, 0, "matmul.forward {}")), [
    "navi31: matmul.forward {} has 10 % multiply-adds in its inner loop, at least 80 % expected",
  ]);
  assert.deepEqual(overBudget("navi31", figures("a", 79, 0, 'matmul.forward {"mappedB":true}')), []);
  const table = { navi31: figures("a", 50) };
  assert.deepEqual(worse("navi31", figures("a", 49.6), table), []);
  assert.deepEqual(worse("navi31", figures("b", 47.5), table), [], "another compiler");
  for (const [compiler, fma] of [
    ["a", 49.4],
    ["b", 46.9],
  ] as const)
    assert.deepEqual(worse("navi31", figures(compiler, fma), table), [
      `navi31: softmax.forward {"vec":true} {"WG":64} has ${fma} % multiply-adds in its inner loop, 50 % before`,
    ]);
  const flagged = 'softmax.forward {"lanes":0,"vec":true} {"WG":64}';
  assert.deepEqual(worse("navi31", figures("a", 49, 0, flagged), table), [
    `navi31: ${flagged} has 49 % multiply-adds in its inner loop, 50 % before`,
  ]);
  assert.deepEqual(worse("navi31", figures("a", 0, 0, "new.forward"), table), [
    "navi31: new.forward is not in tools/isa/table.json: run tsx tools/isa.ts --write",
  ]);
  // A flag that came since and is not none: what has it would be compared with nothing.
  const stepped = 'softmax.forward {"STEP":4,"vec":true} {"WG":64}';
  assert.deepEqual(worse("navi31", figures("a", 0, 0, stepped), table), [
    `navi31: ${stepped} is not in tools/isa/table.json: run tsx tools/isa.ts --write`,
  ]);
});

test("isa --write KERNEL puts that kernel's figures in place of its own, and of no other's", () => {
  const [old, now] = ['softmax.forward {"vec":true} {"WG":64}', 'softmax.forward {"vec":false} {"WG":64}'];
  const [other, alike] = ["reduce.sums {}", "softmaxes.forward {}"];
  const table = {
    compiler: "a",
    kernels: Object.assign({}, ...[old, alike, other].map((line) => figures("a", 50, 0, line).kernels)),
  };
  const { kernels } = renewed(table, figures("a", 60, 0, now), ["softmax"]);
  assert.deepEqual(Object.keys(kernels), [other, now, alike]);
  assert.equal(kernels[now].fma, 60);
  assert.throws(() => renewed(table, figures("b", 60, 0, now), ["softmax"]), {
    message: "the table is by a, this is b: write all kernels",
  });
});

const SPILLING = `
struct Dims { size: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> d: Dims;
override WG: u32 = 64;
@compute @workgroup_size(WG)
fn heavy(@builtin(global_invocation_id) id: vec3u) {
#unroll i 160
  var a$i = x[id.x + $iu];
#endunroll
  for (var k = 0u; k < d.size; k++) {
#unroll i 160
    a$i = fma(a$i, x[k], a$i);
#endunroll
  }
#unroll i 160
  y[id.x * 160u + $iu] = a$i;
#endunroll
}
@compute @workgroup_size(WG)
fn light(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < d.size) { y[id.x] = x[id.x] + 1.0; }
}
`;

test("a kernel of one's own shows its spills, and its inner loop", compiled, async () => {
  const file = join(folder, "own.wgsl");
  writeFileSync(file, SPILLING);
  const own = { file, entries: [] };
  const { kernels } = await isa(here, { target: "navi31", own, values: { WG: 128 } });
  const [heavy, light] = kernels;
  assert.deepEqual([heavy.line, light.line], ['own/own.heavy {"WG":128}', 'own/own.light {"WG":128}']);
  assert.deepEqual([heavy.threads, light.threads], [128, 128]);
  assert.ok(heavy.spills > 0 && heavy.scratch > 0, `${heavy.spills} spills`);
  assert.ok((heavy.loop?.fma ?? 0) >= 640, "160 multiply-adds of four");
  assert.deepEqual([light.spills, light.scratch, light.loop], [0, 0, undefined]);
  assert.deepEqual([light.mix.load, light.mix.store, light.mix.float], [1, 1, 4]);
  assert.ok((heavy.waves ?? 0) < (light.waves ?? 0));
});

test("wavegate isa shows kernels as a table, their code and JSON", compiled, async () => {
  const { printed, json } = await runHere(
    verb,
    "softmax.forward",
    "--variant",
    '{"logarithm":false,"HELD":0,"X":"f32","vec":true}',
    "--asm",
  );
  assert.match(printed[0], /^navi31 \(Radeon RX 7900, RDNA 3\), by .*Mesa/);
  assert.match(printed[1], /^kernel +variant +threads +subgroup +registers +spills/);
  assert.match(printed[2], /^softmax\.forward +no masked +64 +64 +\d+ +0 +512 +\d+ /);
  assert.match(printed.find((line) => /^ {2}v_exp_f32/.test(line)) ?? "", /v_exp_f32/);
  const [{ target, kernels }] = json as (IsaReport & { kernels: { asm: string[] }[] })[];
  assert.deepEqual([target, kernels.length], ["navi31", 2]);
  for (const { name, entry, variant, asm } of kernels) {
    assert.deepEqual([name, entry, variant.flags?.logarithm], ["softmax", "forward", false]);
    assert.ok(asm.length > 10);
  }
});

test("a variant that no operator runs is compiled all the same", compiled, async () => {
  const report = await isa(here, { target: "navi31", names: ["weight_norm.gain"], values: { WG: 32 } });
  assert.deepEqual(
    report.kernels.map(({ line, threads }) => [line, threads]),
    [['weight_norm.gain {"WG":32}', 32]],
  );
});

test("wavegate isa says in one line what it cannot compile", compiled, async () => {
  const file = join(folder, "bad.wgsl");
  writeFileSync(file, SPILLING.replace("+ 1.0", "+ one"));
  const empty = join(folder, "empty.wgsl");
  writeFileSync(empty, "fn f() {}");
  const own = (file: string, ...entries: string[]): Omit<IsaOptions, "target"> => ({
    own: { file, entries },
  });
  const cases: readonly (readonly [Omit<IsaOptions, "target">, RegExp])[] = [
    [{ names: ["softmaxx"] }, /^Cannot find kernel softmaxx: did you mean softmax\?$/],
    [{ names: ["mse"], values: { nothing: 1 } }, /^Cannot expand kernel mse: it has no flag nothing /],
    [own(file), /^Cannot compile kernel own\/bad\.heavy.*: unresolved value 'one'/],
    [own(empty), /^Cannot compile .*empty\.wgsl: it has no @compute entry point$/],
    [
      own(file, "gone"),
      /^Cannot run own\/bad\.gone: the kernel has no entry point gone \(it has: heavy, light\)$/,
    ],
  ];
  for (const [order, message] of cases)
    await assert.rejects(isa(here, { target: "navi31", ...order }), (error: Error) => {
      assert.match(error.message.split("\n", 1)[0], message);
      return true;
    });
});

test("wavegate isa refuses what it does not know, before anything is compiled", async () => {
  const says = async (args: string[], message: RegExp) => {
    const { error } = await runHere(verb, ...args);
    assert.match(error?.message ?? "", message);
  };
  await says(["--target", "voodoo"], /^Cannot compile for voodoo: targets are navi21, navi31, /);
  await says(["--variant", "[1]"], /^Cannot read --variant \[1\]: an object as \{"vec":true\} expected$/);
  for (const args of [
    ["--target", "navi31"],
    ["--variant", "{}"],
    ["--wgsl", "own.wgsl"],
    ["--entry", "f"],
    ["--asm"],
  ])
    await says(
      ["--write", ...args],
      new RegExp(`^Cannot take ${args[0]} with --write: it writes all variants on all listed targets$`),
    );
  await says(["--entry", "f"], /^Cannot take --entry without --wgsl: name KERNEL\.ENTRY instead$/);
  await says(["mse", "--wgsl", "x.wgsl"], /^Cannot take kernels of the package and --wgsl at once$/);
  await says(["--wgsl", "no-such.wgsl"], /^Cannot read no-such\.wgsl: there is no such file$/);
});

test("what is missing is named with what brings it", () => {
  const missing = (env: Readonly<Record<string, string>>, call: () => unknown, message: RegExp) => {
    const before = { ...process.env };
    try {
      Object.assign(process.env, env);
      assert.throws(call, (error: Error) => {
        assert.ok(error instanceof MissingError, String(error));
        assert.match(error.message, message);
        return true;
      });
    } finally {
      for (const name of Object.keys(env)) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  };
  const on = (target: string) => () => targetEnvironment(targetOf(target), folder);
  missing(
    { PATH: folder },
    () => cudaPrograms("sm_90"),
    /^Cannot compile for sm_90: no spirv-cross is here; Debian's package spirv-cross has it$/,
  );
  if (process.platform !== "linux") return missing({}, on("navi31"), /Mesa's compilers run on Linux$/);
  missing(
    { XDG_DATA_DIRS: folder, XDG_CONFIG_DIRS: folder, XDG_DATA_HOME: folder },
    on("navi31"),
    /^Cannot compile for navi31: Mesa's RADV \(libvulkan_radeon\.so\) is not here; Debian's package mesa-vulkan-drivers has it/,
  );
  if (cannot) return;
  missing(
    { PATH: folder, CC: "" },
    on("navi31"),
    /^Cannot compile for navi31: no C compiler is here; Debian's package gcc has one$/,
  );
  missing(
    { WAVEGATE_INTEL_SHIM: join(folder, "gone.so"), XDG_CACHE_HOME: folder },
    on("bmg"),
    /^Cannot compile for bmg: WAVEGATE_INTEL_SHIM names .*gone\.so; there is no such file$/,
  );
});

const ACO = `
BB0:
	s_load_b128 s[4:7], s[2:3], null                            ; f4080101 f8000000
	s_mov_b32 s0, 0                                             ; be800080
BB1:
	buffer_load_b128 v[0:3], v8, s[4:7], 0 offen                ; e05c0000
	ds_store_b128 v9, v[0:3]                                    ; db7c0000
	s_barrier                                                   ; bfbd0000
BB2:
	ds_load_b128 v[0:3], v9                                     ; dbfc0000
	s_waitcnt lgkmcnt(0)                                        ; bf89fc07
	v_dual_fmac_f32 v4, v0, v1 :: v_dual_mul_f32 v5, v2, v3     ; c8060300
	v_fmac_f32_e32 v4, v0, v1                                   ; 56080300
	v_add_f32_e32 v4, v0, v1                                    ; 06080300
	s_cbranch_scc1 BB2                                          ; bfa2fff0
	s_cbranch_scc0 BB1                                          ; bfa1fff0
BB3:
	scratch_store_b32 off, v4, s33                              ; dc690000
	s_endpgm                                                    ; bfb00000
`;
const ACO_IR = `
BB1
/* logical preds: BB0, / linear preds: BB0, BB1, / kind: uniform, loop-header, */
	 v1: %3:v[0] = v_fmac_f32 %1:v[1], %2:v[2], %3:v[0]
	 s1: %4:s[0],  s1: %5:scc = s_add_i32 %4:s[0], 1
	s_wait_kmcnt imm:0
	buffer_store_dword %1:s[0-3], v1: undef, 0, %3:v[0] offen storage:buffer
	s_cbranch_scc1 block:BB1
`;
const GEN = `
mov(16)         g14<1>UD        g0.1<0,1,0>UD                   { align1 WE_all 1H compacted };

LABEL3:
send(16)        g58UD           g57UD           nullUD          0x04101500                0x00000000
                            slm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 4 )  { align1 1Q $1 };
mad(16)         g20<1>F         g20<8,8,1>F     g30<8,8,1>F     g40<1,1,1>F { align1 1H };
mad(16)         g21<1>D         g20<8,8,1>D     g30<8,8,1>D     g40<1,1,1>D { align1 1H };
(+f0.0) break(32) JIP:  LABEL2        UIP:  LABEL2              { align1 };
LABEL2:
while(32)       JIP:  LABEL3                                    { align1 };
`;
const SASS = `
        /*0000*/                   LDC R1, c[0x0][0x28] ;                     /* 0x00000a00ff017b82 */
        /*0010*/                   LDS.128 R4, [R2] ;                         /* 0x0000000002047984 */
        /*0020*/                   FFMA R8, R4, R5, R8 ;                      /* 0x0000000504087223 */
        /*0030*/              @!P0 FADD R8, R8, R9 ;                          /* 0x0000000908087221 */
        /*0040*/               @P1 BRA P2, 0x10 ;                             /* 0xfffffffc00f01947 */
        /*0050*/                   EXIT ;                                     /* 0x000000000000794d */
        /*0060*/                   BRA 0x60;                                  /* 0xfffffffc00fc7947 */
        /*0070*/                   NOP;                                       /* 0x0000000000007918 */
`;

test("disassemblies are read: loops that hold no other, and what they are made of", () => {
  const aco = readListing(ACO, "aco");
  assert.deepEqual(innerLoops(aco), [{ first: 5, last: 11 }]);
  const hottest = hottestLoop(aco);
  assert.deepEqual(mixOf(aco, hottest), { sharedLoad: 1, wait: 1, fma: 2, float: 2, branch: 1 });
  assert.equal(fmaShare(mixOf(aco, hottest)), 2 / 7);
  const { load, sharedStore, barrier, spill, constantLoad } = mixOf(aco);
  assert.deepEqual([load, sharedStore, barrier, spill, constantLoad], [1, 1, 1, 1, 1]);
  const looped = (text: string, dialect: "aco" | "gen" | "sass") => {
    const code = readListing(text, dialect);
    return mixOf(code, hottestLoop(code));
  };
  assert.deepEqual(looped(ACO_IR, "aco"), { fma: 1, integer: 1, wait: 1, store: 1, branch: 1 });
  assert.deepEqual(looped(GEN, "gen"), { sharedLoad: 1, fma: 1, integer: 1, branch: 2 });
  assert.deepEqual(looped(SASS, "sass"), { sharedLoad: 1, fma: 1, float: 1, branch: 1 });
  assert.equal(readListing(SASS, "sass").length, 6, "up to the branch to itself");
});

test("a kernel in Metal's language becomes one in CUDA", () => {
  const metal = `#include <metal_stdlib>
using namespace metal;

struct _1
{
    float4 _m0[1];
};

struct _2
{
    uint4 _m0[1];
};

static inline __attribute__((always_inline))
float _f(const device _1& x, constant _2& d)
{
    return dot(x._m0[d._m0[0u].x].xy, float2(0.5));
}

kernel void dawn_entry_point(device _1& y [[buffer(0)]], constant _2& d [[buffer(1)]], uint3 wg [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]])
{
    threadgroup float4 tile[64];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[t] = float4(_f(y, d));
}
`;
  const cuda = cudaKernel(metal, "k7", "64");
  assert.match(cuda, /^namespace msl \{ namespace of_k7 \{/);
  assert.match(
    cuda,
    /extern "C" __global__ void __launch_bounds__\(64\) k7\(_1\* __restrict__ p_y, const __grid_constant__ _2 d\)/,
  );
  assert.match(cuda, /struct _1\n\{\n {4}float4 _m0\[16777216\];/, "the runtime-sized array alone");
  assert.match(cuda, /struct _2\n\{\n {4}uint4 _m0\[1\];/);
  assert.match(cuda, /__device__ __forceinline__\nfloat _f\(const +_1& x, const _2& d\)/);
  assert.match(cuda, /\.xy\(\), float2\(0\.5f\)/);
  assert.match(cuda, / __shared__ float4 tile\[64\];\n {4}__syncthreads\(\);/);
  assert.throws(
    () => cudaKernel(metal.replace("thread_index_in_threadgroup", "amplification_id"), "k", "64"),
    {
      message: "Cannot translate to CUDA: uint t [[amplification_id]] has no counterpart there",
    },
  );
});

test("variants are shown by what tells them apart", () => {
  const lines = [
    'a.f {"enables":"","vec":true,"W":"f32"} {"WG":64}',
    'a.f {"enables":"x","vec":false,"W":"f32"} {"WG":8}',
    "a.g",
  ];
  assert.deepEqual(partsOf(lines[0]), {
    kernel: "a.f",
    values: { enables: "", vec: true, W: "f32", WG: 64 },
  });
  assert.deepEqual([...shortVariants(lines).values()], ["vec, WG=64", "no vec, WG=8", ""]);
});

test("warps that a part of NVIDIA's multiprocessor holds go by registers, memory and blocks", () => {
  const h100 = { warps: 64, blocks: 32, shared: 228 };
  const held = (registers: number, shared: number, threads: number) =>
    warpsPerPart(h100, { registers, shared, threads });
  assert.equal(held(32, 0, 256), 16);
  assert.equal(held(128, 0, 128), 4);
  assert.equal(held(32, 100 * 1024, 128), 2);
  assert.equal(held(32, 0, 32), 8);
});
