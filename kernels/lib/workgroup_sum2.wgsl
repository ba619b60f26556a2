// Two sums at once over a workgroup of WG threads (a power of two), each in the order of workgroup_sum().
var<workgroup> partial2: array<vec2f, WG>;

fn workgroup_sum2(t: u32, value: vec2f) -> vec2f {
  workgroupBarrier();
  partial2[t] = value;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (t < half) { partial2[t] = partial2[t] + partial2[t + half]; }
  }
  workgroupBarrier();
  return partial2[0];
}
