// e^x within 2 ulp (Cephes): the built-in's error may grow with |x|. What has no finite result is left to the built-in.
fn accurate_exp(x: vec4f) -> vec4f {
  let n = round(x * 1.44269504088896341);
  // ln 2 in two parts, so that x − n·ln 2 is exact. The select changes nothing but keeps Mesa from joining the parts.
  let r = select(x - n * 0.693359375, x, n == vec4f(0.0)) + n * 2.12194440e-4;
  let p = 0.5 + r * (1.6666665459e-1 + r * (4.1665795894e-2 + r * (8.3334519073e-3 + r * (1.3981999507e-3 + r * 1.9875691500e-4))));
  // 2^n in two factors, as n may be one more than an exponent can hold.
  let half = vec4i(clamp(n, vec4f(-200.0), vec4f(200.0))) / 2;
  let rest = vec4i(clamp(n, vec4f(-200.0), vec4f(200.0))) - half;
  let y = (1.0 + (r + r * r * p)) * bitcast<vec4f>((half + 127) << vec4u(23u)) * bitcast<vec4f>((rest + 127) << vec4u(23u));
  return select(exp(x), y, abs(x) < vec4f(104.0));
}
