// group_norm: y = (x - mean)·rstd·w + b, channels-last; the statistics run over T and the C/G channels of a group. `tiled`
// chooses between two bodies, each in its own file.
//
// The mean is kept as a sum of two floats: a first one, whose rounding the pass over the squares finds and the second mends,
// so that neither a large mean nor one far from the first element costs precision (the corrected two-pass algorithm of
// Chan, Golub & LeVeque 1983).
// vec: C is a multiple of 4 and an element E is a vec4; only in tiles.   X: element type of x, y, dy and dx.
${enables}
override WG: u32 = 8;

#if ${vec}
alias E = vec4f;
alias S = vec4<${X}>;
#else
alias E = f32;
alias S = ${X};
#endif

// splits: of the frames, in combine and gather.
struct Dims { B: u32, T: u32, C: u32, G: u32, splits: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<S>;
@group(0) @binding(1) var<storage, read> w: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<S>;
@group(0) @binding(4) var<storage, read_write> mean: array<vec2f>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;
@group(0) @binding(7) var<storage, read> dy: array<S>;
@group(0) @binding(8) var<storage, read_write> dx: array<S>;
@group(0) @binding(9) var<storage, read> savedMean: array<vec2f>;
@group(0) @binding(10) var<storage, read> savedRstd: array<f32>;
@group(0) @binding(11) var<storage, read_write> dw: array<f32>;
@group(0) @binding(12) var<storage, read_write> db: array<f32>;

// What x is from its group's mean.
fn centred(v: f32, m: vec2f) -> f32 { return (v - m.x) - m.y; }

#include "lib/sum.wgsl"

#if ${tiled}
#include "lib/group_norm_tiles.wgsl"
#else
#include "lib/group_norm_rows.wgsl"
#endif
