// Counter-based random bits: the same (seed, index) gives the same bits on every adapter and in every kernel, so a
// dropout mask is recomputed in the backward and never stored. Two rounds of PCG-RXS-M-XS (O'Neill 2014).
fn pcg(input: u32) -> u32 {
  let state = input * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn random_bits(seed: u32, index: u32) -> u32 {
  return pcg(index ^ pcg(seed));
}
