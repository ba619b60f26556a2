// One dimension of a grid holds 65535 workgroups; long runs fold into x and y (see gridFor() in gpu/launch.ts).
fn linear_id(wg: vec3u, groups: vec3u, t: u32, size: u32) -> u32 {
  return (wg.y * groups.x + wg.x) * size + t;
}
