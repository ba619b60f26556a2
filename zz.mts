import { currentHost } from "./src/host/current.ts";
import { isa } from "./tools/isa/isa.ts";
import { totalOf } from "./tools/isa/listing.ts";
process.env.PATH += ":/tmp/isa-common/bin"; process.env.WAVEGATE_INTEL_SHIM="/tmp/isa-common/libintel_noop_drm_shim.so";
for (const target of process.argv.slice(2)) { const t0=performance.now(); const r = await isa(await currentHost(), { target }); console.log(r.target, r.compiler, r.kernels.length, ((performance.now()-t0)/1000).toFixed(1)+"s");
for (const k of r.kernels) if (k.use !== "sample" || k.spills || k.scratch) console.log(k.line.slice(0,60).padEnd(60), k.threads, k.subgroup, "regs", k.registers, "spills", k.spills, "scratch", k.scratch, "lds", k.shared, "waves", k.waves, totalOf(k.mix), k.loop && totalOf(k.loop), (100*k.fma).toFixed(1)); }
process.exit(0);
