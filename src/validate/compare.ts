/** How far a tensor is from its reference. */

export interface Distance {
  readonly maxAbs: number;
  /** ‖got − want‖ / ‖want‖; the plain norm where want is zero. */
  readonly relL2: number;
  readonly cosine: number;
}

export interface Stage extends Distance {
  readonly name: string;
  readonly kind: "forward" | "gradient";
  readonly pass: boolean;
  /** relL2 of PyTorch's own result, where the reference is better than that. */
  readonly torch?: number;
}

/**
 * Compares in float64. Where the reference is not finite the result must be the same kind of not finite: that counts as
 * no distance, anything else as infinitely far.
 */
export function distance(got: ArrayLike<number>, want: ArrayLike<number>): Distance {
  if (got.length !== want.length)
    return { maxAbs: Number.POSITIVE_INFINITY, relL2: Number.POSITIVE_INFINITY, cosine: 0 };
  let [maxAbs, difference, wants, gots, product] = [0, 0, 0, 0, 0];
  for (let i = 0; i < want.length; i++) {
    if (!Number.isFinite(want[i])) {
      if (!Object.is(got[i], want[i]))
        return { maxAbs: Number.POSITIVE_INFINITY, relL2: Number.POSITIVE_INFINITY, cosine: 0 };
      continue;
    }
    const delta = got[i] - want[i];
    if (!Number.isFinite(delta))
      return { maxAbs: Number.POSITIVE_INFINITY, relL2: Number.POSITIVE_INFINITY, cosine: 0 };
    maxAbs = Math.max(maxAbs, Math.abs(delta));
    difference += delta * delta;
    wants += want[i] * want[i];
    gots += got[i] * got[i];
    product += got[i] * want[i];
  }
  const relL2 = wants > 0 ? Math.sqrt(difference / wants) : Math.sqrt(difference);
  const cosine = wants > 0 && gots > 0 ? product / Math.sqrt(wants * gots) : difference === 0 ? 1 : 0;
  return { maxAbs, relL2, cosine };
}

/** One stage to be compared: what came out, the best truth there is, and PyTorch's own result where the truth is better. */
export interface Evidence {
  readonly name: string;
  readonly kind: "forward" | "gradient";
  readonly got: ArrayLike<number> | undefined;
  readonly truth: ArrayLike<number>;
  readonly torch?: ArrayLike<number>;
}

/**
 * Judges every stage: it passes within `limit` (relative L2), or no farther from the truth than PyTorch's own result is.
 * Gradients that are zero analytically come out as rounding noise, so one also passes within 1e-6 of the largest gradient of the case,
 * or a hundredth of `limit` where that is more.
 */
export function compareStages(evidence: readonly Evidence[], limit: number): Stage[] {
  const floor =
    Math.max(1e-6, 1e-2 * limit) *
    Math.max(0, ...evidence.filter((e) => e.kind === "gradient").map((e) => largest(e.truth)));
  return evidence.map(({ name, kind, got, truth, torch }) => {
    if (!got) return { name, kind, maxAbs: largest(truth), relL2: 1, cosine: 0, pass: false };
    const d = distance(got, truth);
    const near = torch ? distance(torch, truth) : undefined;
    const pass =
      d.relL2 <= limit ||
      (near !== undefined && d.relL2 <= near.relL2) ||
      (kind === "gradient" && d.maxAbs <= floor);
    return { name, kind, ...d, pass, ...(near && { torch: near.relL2 }) };
  });
}

function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++)
    if (Number.isFinite(values[i])) most = Math.max(most, Math.abs(values[i]));
  return most;
}
