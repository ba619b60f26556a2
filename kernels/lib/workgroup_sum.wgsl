// Sum over a workgroup of WG threads (a power of two), the same order every time; every thread gets the result.
var<workgroup> partial: array<f32, WG>;

fn workgroup_sum(t: u32, value: f32) -> f32 {
  workgroupBarrier();
  partial[t] = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (t < half) { partial[t] += partial[t + half]; }
  }
  workgroupBarrier();
  return partial[0];
}
