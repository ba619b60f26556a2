// accumulate: the sum of two gradients, four elements at a time.
//   forward  a b (N) -> y = a + b
// A thread goes on in steps of the whole grid, so that one dimension of workgroups serves any N.
override WG: u32 = 64;

struct Dims { quads: u32 }

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> d: Dims;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  for (var i = wg.x * WG + t; i < d.quads; i += groups.x * WG) { y[i] = a[i] + b[i]; }
}
