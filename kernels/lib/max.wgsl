// workgroup_max() and workgroup_max_i(), as sum.wgsl has workgroup_sum().
#if ${bySubgroup}
fn workgroup_max(t: u32, value: f32) -> f32 {
  var highest = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) { highest = max(highest, subgroupShuffleXor(highest, half)); }
  return highest;
}

fn workgroup_max_i(t: u32, value: i32) -> i32 {
  var highest = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) { highest = max(highest, subgroupShuffleXor(highest, half)); }
  return highest;
}
#else
#include "lib/workgroup_max.wgsl"
#endif
