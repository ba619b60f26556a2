/**
 * Optimisers over the parameters of a model, as torch.optim defines them, with clipping by the global norm. Norm and
 * finiteness stay on the GPU: nothing here waits.
 */
import type { Device } from "../gpu/device.ts";
import type { Parameter } from "../nn/parameter.ts";
import { add, full } from "../ops/elementwise.ts";
import { adamStep, type Clip, clipNorm, sgdStep } from "../ops/optimizer.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** One number for all parameters, or one for each by its first key. */
export type ByKey = number | ((key: string) => number);

/** What all optimisers take. */
export interface OptimizerOptions {
  /** Of a step whose StepOptions.factor is 1. */
  readonly learningRate: ByKey;
  /** 0 by default. */
  readonly weightDecay?: ByKey;
  /** Largest global norm of the gradients; infinite by default. */
  readonly maxGradNorm?: number;
}

/** What Adam and AdamW take, with torch's defaults. */
export interface AdamOptions extends OptimizerOptions {
  /** Decay of the mean of the gradients; 0.9 by default. */
  readonly beta1?: number;
  /** Decay of the mean of their squares; 0.999 by default. */
  readonly beta2?: number;
  /** Added to the root of that mean; 1e-8 by default. */
  readonly eps?: number;
}

/** What SGD takes. */
export interface SgdOptions extends OptimizerOptions {
  /** 0 by default. */
  readonly momentum?: number;
}

/** What one step is done with. */
export interface StepOptions {
  /** What the learning rates are multiplied by in this step: a schedule's factor. */
  readonly factor?: number;
  /** The inverse of a loss scale that the gradients carry. */
  readonly unscale?: number;
}

/** What an optimiser knows of a parameter. */
export interface Slot {
  /** Whose. */
  readonly parameter: Parameter;
  /** Of a step whose factor is 1. */
  learningRate: number;
  /** Of this parameter. */
  readonly weightDecay: number;
  /** Of the parameter's shape, in the order of their names. */
  readonly moments: readonly Tensor[];
  /** Updates of this parameter so far: torch counts each by itself, and one without a gradient is left alone. */
  step: number;
  /** What was accumulated since the last step. */
  gradient?: Tensor;
}

/** A moment as a checkpoint holds it, under torch's name: "exp_avg.KEY". */
export interface NamedMoment {
  /** "exp_avg.KEY" */
  readonly key: string;
  /** Of the parameter's part. */
  readonly shape: readonly number[];
  /** The moments of the whole parameter. */
  readonly tensor: Tensor;
  /** First element in `tensor`. */
  readonly offset: number;
}

/** Throws for what is no number: the weights would become NaN. */
function of(value: ByKey, name: string, key: string): number {
  const own = typeof value === "number" ? value : value(key);
  if (!Number.isFinite(own))
    throw new RangeError(`Cannot train ${key}: its ${name} is ${own}, a finite number expected`);
  return own;
}

/**
 * What all optimisers do: hold the moments of the trainable parameters, add up gradients, clip them by their global norm,
 * and step. Everything is only recorded; nothing waits.
 */
export abstract class Optimizer {
  readonly #device: Device;
  readonly #slots = new Map<Parameter, Slot>();
  readonly #momentNames: readonly string[];
  readonly #maxGradNorm: number;
  #last: readonly Slot[] = [];

  /** Takes the trainable ones of `parameters`; their values must be there and f32. */
  constructor(
    device: Device,
    parameters: readonly Parameter[],
    options: OptimizerOptions,
    momentNames: readonly string[],
  ) {
    this.#device = device;
    this.#momentNames = momentNames;
    const { learningRate, weightDecay = 0, maxGradNorm = Number.POSITIVE_INFINITY } = options;
    this.#maxGradNorm = maxGradNorm;
    for (const parameter of parameters.filter((p) => p.trainable)) {
      const { value, key, shape } = parameter;
      if (value.dtype !== "f32") throw new TypeError(`Cannot train ${key}: it is ${value.dtype}, not f32`);
      this.#slots.set(parameter, {
        parameter,
        learningRate: of(learningRate, "learning rate", key),
        weightDecay: of(weightDecay, "weight decay", key),
        moments: momentNames.map(() => full(device, shape, 0)),
        step: 0,
      });
    }
  }

  /** One step of a parameter in place, which has a gradient. */
  protected abstract update(
    slot: Readonly<Slot> & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
  ): void;

  /** Sets the learning rates from here on. */
  set learningRate(value: ByKey) {
    for (const slot of this.#slots.values())
      slot.learningRate = of(value, "learning rate", slot.parameter.key);
  }

  /** The parameters that it updates: those whose gradients are wanted. */
  get parameters(): Parameter[] {
    return [...this.#slots.keys()];
  }

  /** Adds the gradients of a micro-batch to those since the last step: gradient accumulation. */
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
   * One update with these gradients and those accumulated so far, which are then gone. Parameters without a gradient stay as
   * they are. Returns a tensor (3) f32: the factor of the clipping, the global norm before it, and 1 where all gradients
   * are finite. Where that is 0 no parameter has changed, and undo() takes the step back in the counts too.
   */
  step(gradients?: ReadonlyMap<Parameter, Tensor>, { factor = 1, unscale = 1 }: StepOptions = {}): Clip {
    if (gradients) this.accumulate(gradients);
    const due = [...this.#slots.values()].filter((s) => s.gradient);
    const all = due.map((s) => s.gradient as Tensor);
    const clip = clipNorm(this.#device, all, this.#maxGradNorm, unscale);
    for (const slot of due) {
      const gradient = slot.gradient as Tensor;
      slot.step++;
      this.update({ ...slot, gradient }, clip, slot.learningRate * factor);
      slot.parameter.version++;
      gradient.release();
      slot.gradient = undefined;
    }
    this.#last = due;
    return clip;
  }

  /** Takes the last step back in the counts of updates: for a step that changed nothing, a gradient not being finite. */
  undo(): void {
    for (const slot of this.#last) slot.step--;
    this.#last = [];
  }

  /** All moments of every tensor of a checkpoint. */
  *moments(): Generator<NamedMoment> {
    for (const { parameter, moments } of this.#slots.values())
      for (const { key, shape, offset } of parameter.parts)
        for (const [i, name] of this.#momentNames.entries())
          yield { key: `${name}.${key}`, shape, tensor: moments[i], offset };
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
      const { parameter, moments } = slot;
      const step = steps[parameter.key];
      if (step === undefined) throw new Error(`Cannot resume: no moments were saved for ${parameter.key}`);
      slot.step = step;
      for (const [i, name] of this.#momentNames.entries()) {
        const all = new Float32Array(moments[i].size);
        for (const { key, offset } of parameter.parts) all.set(await read(`${name}.${key}`), offset);
        moments[i].write(all);
      }
    }
  }

  /** Frees moments and gradients, not the parameters. */
  dispose(): void {
    for (const { moments, gradient } of this.#slots.values())
      for (const t of [...moments, gradient]) t?.release();
    this.#slots.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Adam (Kingma & Ba 2015; torch.optim.Adam): the weight decay is added to the gradient. */
export class Adam extends Optimizer {
  readonly #rule: { readonly beta1: number; readonly beta2: number; readonly eps: number };

  /** Takes the trainable ones of `parameters`; their values must be there and f32. */
  constructor(device: Device, parameters: readonly Parameter[], options: AdamOptions) {
    super(device, parameters, options, ["exp_avg", "exp_avg_sq"]);
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8 } = options;
    this.#rule = { beta1, beta2, eps };
  }

  protected get decoupled(): boolean {
    return false;
  }

  protected override update(
    { parameter, gradient, moments: [m, v], step, weightDecay }: Slot & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
  ): void {
    const { decoupled } = this;
    adamStep(parameter.value, gradient, m, v, clip, {
      ...this.#rule,
      step,
      decay: weightDecay,
      rate,
      decoupled,
    });
  }
}

/**
 * AdamW (Loshchilov & Hutter 2019; torch.optim.AdamW): the weight decay acts on the weights, not on the gradient.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const layer = new Linear(weights.root, 2, 1);
 * await weights.initialize();
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [2, 2]);
 * const y = Tensor.from(device, Float32Array.of(3, 7), [2, 1]); // x₁ + x₂
 * const optimizer = new AdamW(device, weights.parameters, { learningRate: 0.1 });
 * const loss = () => ops.mse(layer.forward(x), y);
 * for (let step = 0; step < 300; step++)
 *   scope(device, () => void optimizer.step(valueAndGrad(device, optimizer.parameters, loss).gradients));
 * const end = await scope(device, loss).item();
 * console.log(end < 0.01); // true
 * ```
 */
export class AdamW extends Adam {
  protected override get decoupled(): boolean {
    return true;
  }
}

/** Stochastic gradient descent with momentum (torch.optim.SGD, dampening 0). */
export class SGD extends Optimizer {
  readonly #momentum: number;

  /** Takes the trainable ones of `parameters`; their values must be there and f32. */
  constructor(device: Device, parameters: readonly Parameter[], options: SgdOptions) {
    super(device, parameters, options, ["momentum_buffer"]);
    this.#momentum = options.momentum ?? 0;
  }

  protected override update(
    { parameter, gradient, moments: [m], step, weightDecay }: Slot & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
  ): void {
    sgdStep(parameter.value, gradient, m, clip, { rate, momentum: this.#momentum, decay: weightDecay, step });
  }
}
