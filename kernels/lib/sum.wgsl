// workgroup_sum(), for kernels that share nothing else through workgroup memory. Where the workgroup is one subgroup of a CPU
// adapter (bySubgroup, which the device sets) it adds up the same numbers in the same order without barriers: llvmpipe takes a
// kernel apart at every barrier, and compiles half as long without.
#if ${bySubgroup}
fn workgroup_sum(t: u32, value: f32) -> f32 {
  var sum = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) { sum += subgroupShuffleXor(sum, half); }
  return sum;
}
#else
#include "lib/workgroup_sum.wgsl"
#endif
