/**
 * AdamW over the parameters of a model (Loshchilov & Hutter 2019; torch.optim.AdamW): decoupled decay, groups by key
 * with rates of their own, clipping by the global norm. Norm and finiteness stay on the GPU: nothing here waits.
 */
import type { Device } from "../gpu/device.ts";
import type { Parameter } from "../nn/parameter.ts";
import { add, full } from "../ops/elementwise.ts";
import { adamStep, type Clip, clipNorm } from "../ops/optimizer.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Largest global norm of the gradients; infinite by default. */
  readonly clip?: number;
  /** Rate of a parameter before the schedule, by its first key. */
  readonly rate: (key: string) => number;
  /** Decay of a parameter, by its first key; 0 by default. */
  readonly decay?: (key: string) => number;
}

interface Slot {
  readonly parameter: Parameter;
  readonly rate: number;
  readonly decay: number;
  readonly m: Tensor;
  readonly v: Tensor;
  /** Updates of this parameter so far: torch counts each by itself, and one without a gradient is left alone. */
  step: number;
  gradient?: Tensor;
}

/** A moment as a checkpoint holds it: "exp_avg.KEY" or "exp_avg_sq.KEY". */
export interface NamedMoment {
  readonly key: string;
  readonly shape: readonly number[];
  readonly tensor: Tensor;
  /** First element in `tensor`. */
  readonly offset: number;
}

export class AdamW {
  readonly #device: Device;
  readonly #slots = new Map<Parameter, Slot>();
  readonly #options: Required<Pick<AdamWOptions, "beta1" | "beta2" | "eps" | "clip">>;

  /** Takes the trainable ones of `parameters`; their values must be loaded and f32. */
  constructor(device: Device, parameters: readonly Parameter[], options: AdamWOptions) {
    this.#device = device;
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, clip = Number.POSITIVE_INFINITY } = options;
    this.#options = { beta1, beta2, eps, clip };
    for (const parameter of parameters.filter((p) => p.trainable)) {
      const { value, key, shape } = parameter;
      if (value.dtype !== "f32") throw new TypeError(`Cannot train ${key}: it is ${value.dtype}, not f32`);
      const zeros = () => full(device, shape, 0);
      this.#slots.set(parameter, {
        parameter,
        rate: options.rate(key),
        decay: options.decay?.(key) ?? 0,
        m: zeros(),
        v: zeros(),
        step: 0,
      });
    }
  }

  /** The parameters whose gradients are wanted. */
  get parameters(): Parameter[] {
    return [...this.#slots.keys()];
  }

  /** Adds the gradients of a micro-batch to those since the last step. */
  accumulate(gradients: ReadonlyMap<Parameter, Tensor>): void {
    for (const [parameter, gradient] of gradients) {
      const slot = this.#slots.get(parameter);
      if (!slot) continue;
      const before = slot.gradient;
      slot.gradient = (before ? add(before, gradient) : gradient).keep();
      before?.release();
    }
  }

  /**
   * One update with the gradients accumulated so far, which it forgets. Returns [scale, norm, finite]: where a gradient
   * is not finite nothing changes, and `undo()` takes the step back in the counts too.
   */
  step(factor: number, unscale = 1): Clip {
    const due = [...this.#slots.values()].filter((s) => s.gradient);
    const gradients = due.map((s) => s.gradient as Tensor);
    const clip = clipNorm(this.#device, gradients, this.#options.clip, unscale);
    const { beta1, beta2, eps } = this.#options;
    for (const slot of due) {
      slot.step++;
      const { parameter, m, v, rate, decay, step } = slot;
      adamStep(parameter.value, slot.gradient as Tensor, m, v, clip, {
        ...{ beta1, beta2, eps, decay, step },
        rate: rate * factor,
        decoupled: true,
      });
      parameter.version++;
      slot.gradient?.release();
      slot.gradient = undefined;
    }
    this.#last = due;
    return clip;
  }
  #last: readonly Slot[] = [];

  /** The last step changed nothing, because a gradient was not finite: it does not count. */
  undo(): void {
    for (const slot of this.#last) slot.step--;
    this.#last = [];
  }

  /** Both moments of every tensor of a checkpoint. */
  *moments(): Generator<NamedMoment> {
    for (const { parameter, m, v } of this.#slots.values()) {
      for (const { key, shape, offset } of parameter.parts) {
        yield { key: `exp_avg.${key}`, shape, tensor: m, offset };
        yield { key: `exp_avg_sq.${key}`, shape, tensor: v, offset };
      }
    }
  }

  /** Updates of each parameter, by its first key. */
  get steps(): Record<string, number> {
    return Object.fromEntries([...this.#slots.values()].map((s) => [s.parameter.key, s.step]));
  }

  /** Restores moments and counts. `read` gives a moment by its name. Throws for a parameter without a count. */
  async restore(
    steps: Readonly<Record<string, number>>,
    read: (key: string) => Promise<Float32Array>,
  ): Promise<void> {
    for (const slot of this.#slots.values()) {
      const { parameter, m, v } = slot;
      const step = steps[parameter.key];
      if (step === undefined) throw new Error(`Cannot resume: no moments were saved for ${parameter.key}`);
      slot.step = step;
      for (const [name, tensor] of [
        ["exp_avg", m],
        ["exp_avg_sq", v],
      ] as const) {
        const all = new Float32Array(tensor.size);
        for (const { key, offset } of parameter.parts) all.set(await read(`${name}.${key}`), offset);
        tensor.write(all);
      }
    }
  }

  dispose(): void {
    for (const { m, v, gradient } of this.#slots.values()) for (const t of [m, v, gradient]) t?.release();
    this.#slots.clear();
  }
}
