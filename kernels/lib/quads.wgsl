// The first quad of a thread that takes ${QUADS} of them, WG apart, so that neighbours read neighbouring addresses.
#include "lib/grid.wgsl"

fn first_quad(wg: vec3u, groups: vec3u, t: u32) -> u32 {
  return linear_id(wg, groups, 0u, ${QUADS}u * WG) + t;
}
