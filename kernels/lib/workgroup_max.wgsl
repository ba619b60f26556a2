// Maximum over a workgroup of WG threads (a power of two); every thread gets the result.
var<workgroup> highest: array<f32, WG>;
var<workgroup> highest_i: array<i32, WG>;

fn workgroup_max(t: u32, value: f32) -> f32 {
  workgroupBarrier();
  highest[t] = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (t < half) { highest[t] = max(highest[t], highest[t + half]); }
  }
  workgroupBarrier();
  return highest[0];
}

fn workgroup_max_i(t: u32, value: i32) -> i32 {
  workgroupBarrier();
  highest_i[t] = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (t < half) { highest_i[t] = max(highest_i[t], highest_i[t + half]); }
  }
  workgroupBarrier();
  return highest_i[0];
}
