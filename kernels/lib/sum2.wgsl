// workgroup_sum2(), as sum.wgsl has workgroup_sum().
#if ${bySubgroup}
fn workgroup_sum2(t: u32, value: vec2f) -> vec2f {
  var sums = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) { sums += subgroupShuffleXor(sums, half); }
  return sums;
}
#else
#include "lib/workgroup_sum2.wgsl"
#endif
