// GELU, exact and tanh, with derivatives; four lanes at a time. f32 throughout.
#include "lib/sigmoid.wgsl"

// Upper tail of the normal distribution at x >= 0: half of erfc(x/sqrt(2)), by Abramowitz & Stegun 7.1.26. Taking the
// tail, and not 1 - erf, keeps the relative precision where GELU is small.
fn normal_tail(x: vec4f) -> vec4f {
  let z = x * 0.70710678118654752;
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return 0.5 * p * exp(-z * z);
}

// Phi(x) = P(X <= x).
fn normal_cdf(x: vec4f) -> vec4f {
  let tail = normal_tail(abs(x));
  return select(tail, 1.0 - tail, x >= vec4f(0.0));
}

fn gelu_exact(x: vec4f) -> vec4f {
  return x * normal_cdf(x);
}

// d/dx x*Phi(x) = Phi(x) + x*phi(x).
fn gelu_exact_slope(x: vec4f) -> vec4f {
  return normal_cdf(x) + x * 0.3989422804014327 * exp(-0.5 * x * x);
}

// tanh by exp of a clamped argument: the built-in overflows to NaN for |x| > 44 on some adapters. Near zero the series
// keeps the relative precision that 1 - e would lose.
fn tanh_safe(x: vec4f) -> vec4f {
  let e = exp(-2.0 * min(abs(x), vec4f(20.0)));
  let big = sign(x) * (1.0 - e) / (1.0 + e);
  let x2 = x * x;
  let small = x * (1.0 + x2 * (-1.0 / 3.0 + x2 * (2.0 / 15.0 + x2 * (-17.0 / 315.0 + x2 * (62.0 / 2835.0)))));
  return select(big, small, abs(x) < vec4f(0.25));
}

// 1 - tanh(x)^2, as sigmoids keep the precision that the difference would lose.
fn tanh_slope(x: vec4f) -> vec4f {
  return 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x);
}

// 0.5·(1 + tanh u) = sigmoid(2u).
fn gelu_tanh(x: vec4f) -> vec4f {
  return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));
}

fn gelu_tanh_slope(x: vec4f) -> vec4f {
  let u = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  let inner = 1.5957691216057308 * (1.0 + 0.134145 * x * x);
  return sigmoid(u) * (1.0 + x * sigmoid(-u) * inner);
}

// kind: 0 none, 1 exact, 2 tanh, 3 the hyperbolic tangent itself (BERT's pooler), 4 relu, 5 sigmoid.
fn activate(kind: u32, x: vec4f) -> vec4f {
  switch (kind) {
    case 1u: { return gelu_exact(x); }
    case 2u: { return gelu_tanh(x); }
    case 3u: { return tanh_safe(x); }
    case 4u: { return select(x, vec4f(0.0), x < vec4f(0.0)); } // max() may drop a NaN
    case 5u: { return sigmoid(x); }
    default: { return x; }
  }
}

// The derivative of activate() at x.
fn activation_slope(kind: u32, x: vec4f) -> vec4f {
  switch (kind) {
    case 1u: { return gelu_exact_slope(x); }
    case 2u: { return gelu_tanh_slope(x); }
    case 3u: { return tanh_slope(x); }
    case 4u: { return select(vec4f(0.0), vec4f(1.0), x > vec4f(0.0)); }
    case 5u: { return sigmoid(x) * sigmoid(-x); }
    default: { return vec4f(1.0); }
  }
}
