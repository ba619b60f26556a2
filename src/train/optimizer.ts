/**
 * Optimisers over the parameters of a model, as torch.optim defines them, with clipping by the global norm. Norm and
 * finiteness stay on the GPU: nothing here waits.
 */
import type { Device } from "../gpu/device.ts";
import { checkNumber, checkOptions, keysOf } from "../io/checks.ts";
import type { Parameter } from "../nn/parameter.ts";
import { add, full } from "../ops/elementwise.ts";
import { adamStep, type Clip, clipNorm, type Progress, sgdStep } from "../ops/optimizer.ts";
import { scope } from "../tensor/scope.ts";
import { showShape, sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkArguments, checkGradients, fromZero, rateOf } from "./optimizer_checks.ts";
import { PairwiseSum } from "./pairwise.ts";

/** One number for all parameters, or one for each by its first key. */
export type ByKey = number | ((key: string) => number);

/** What all optimisers take. */
export interface OptimizerOptions {
  /** Of a step whose StepOptions.factor is 1; from 0. */
  readonly learningRate: ByKey;
  /** From 0; 0 by default. */
  readonly weightDecay?: ByKey;
  /** Largest global norm of the gradients; infinite by default. */
  readonly maxGradNorm?: number;
}

/** What Adam and AdamW take, with torch's defaults. */
export interface AdamOptions extends OptimizerOptions {
  /** Decay of the mean of the gradients, from 0 and less than 1; 0.9 by default. */
  readonly beta1?: number;
  /** Decay of the mean of their squares, from 0 and less than 1; 0.999 by default. */
  readonly beta2?: number;
  /** Added to the root of that mean; 1e-8 by default. */
  readonly eps?: number;
}

/** What SGD takes. */
export interface SgdOptions extends OptimizerOptions {
  /** From 0; 0 by default. */
  readonly momentum?: number;
}

/** What one step is done with. */
export interface StepOptions {
  /**
   * What the learning rates are multiplied by in this step: a schedule's factor. A function is asked for it, also at each replay
   * of a step that is captured.
   */
  readonly factor?: number | (() => number);
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
}

/** A slot with the gradients that were accumulated since the last step. */
interface OwnSlot extends Slot {
  readonly sum: PairwiseSum<Tensor>;
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

const OPTIONS = { learningRate: true, weightDecay: true, maxGradNorm: true } as const;
const ADAM_KEYS = keysOf<AdamOptions>({ ...OPTIONS, beta1: true, beta2: true, eps: true });
const SGD_KEYS = keysOf<SgdOptions>({ ...OPTIONS, momentum: true });
/** Where a profile counts an optimiser's dispatches to. */
const PLACE = { phase: "optimizer", part: "", layer: "" } as const;
const STEP_KEYS = keysOf<StepOptions>({ factor: true, unscale: true });

/** A tensor of its own with the same bytes. */
function copyOf(tensor: Tensor): Tensor {
  const copy = tensor.like();
  tensor.device.recorder.copy(tensor.buffer, 0, copy.buffer, 0, tensor.bytes);
  return copy;
}

/** Adds two gradients that are kept, and are then let go. */
function sumOf(left: Tensor, right: Tensor): Tensor {
  const sum = add(left, right).keep();
  left.release();
  right.release();
  return sum;
}

/**
 * What all optimisers do: hold the moments of the trainable parameters, add up gradients, clip them by their global norm,
 * and step. Everything is only recorded; nothing waits.
 */
export abstract class Optimizer {
  readonly #device: Device;
  readonly #slots = new Map<Parameter, OwnSlot>();
  readonly #momentNames: readonly string[];
  readonly #maxGradNorm: number;
  /** Given to it and not trainable: their gradients are left alone. */
  readonly #frozen: ReadonlySet<Parameter>;
  #last: readonly Slot[] = [];
  /** Place of the next micro-batch among those of the step. */
  #position = 0;

  /**
   * Takes the trainable ones of `parameters`, at least one; their values must be there and f32. `known` are the names of
   * the options that there are; without it they are not checked.
   */
  constructor(
    device: Device,
    parameters: readonly Parameter[],
    options: OptimizerOptions,
    momentNames: readonly string[],
    known?: readonly string[],
  ) {
    const action = `make ${new.target.name || "an optimiser"}`;
    checkArguments(action, device, parameters);
    checkOptions(action, options, known ?? Object.keys(options ?? {}));
    this.#device = device;
    this.#momentNames = momentNames;
    const { learningRate, weightDecay = 0, maxGradNorm = Number.POSITIVE_INFINITY } = options;
    checkNumber(action, "maxGradNorm", maxGradNorm, "more than 0", (x) => x > 0);
    this.#maxGradNorm = maxGradNorm;
    const trained = parameters.filter((p) => p.trainable);
    if (trained.length === 0)
      throw new TypeError(`Cannot ${action}: of its ${parameters.length} parameters none is trainable`);
    this.#frozen = new Set(parameters.filter((p) => !p.trainable));
    // All are looked at before the first moment takes memory.
    const rates = trained.map((parameter) => {
      const { value, key } = parameter;
      if (value.dtype !== "f32") throw new TypeError(`Cannot train ${key}: it is ${value.dtype}, not f32`);
      return [rateOf(learningRate, "learning rate", key), rateOf(weightDecay, "weight decay", key)] as const;
    });
    for (const [i, parameter] of trained.entries()) {
      const { shape } = parameter;
      this.#slots.set(parameter, {
        parameter,
        learningRate: rates[i][0],
        weightDecay: rates[i][1],
        moments: momentNames.map(() => full(device, shape, 0)),
        step: 0,
        sum: new PairwiseSum(sumOf),
      });
    }
  }

  /**
   * One step of a parameter in place, which has a gradient. `now` is given where the step is captured: each replay asks it, by
   * way of varies(), for what `slot.step` and `rate` are by then.
   */
  protected abstract update(
    slot: Readonly<Slot> & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
    now?: () => Progress,
  ): void;

  /** Sets the learning rates from here on. */
  set learningRate(value: ByKey) {
    const slots = [...this.#slots.values()];
    const rates = slots.map((slot) => rateOf(value, "learning rate", slot.parameter.key));
    for (const [i, slot] of slots.entries()) slot.learningRate = rates[i];
  }

  /** The parameters that it updates: those whose gradients are wanted. */
  get parameters(): Parameter[] {
    return [...this.#slots.keys()];
  }

  /**
   * Adds the gradients of a micro-batch to those since the last step: gradient accumulation. Those of parameters that it
   * was given and that are not trainable are left out. Throws for a gradient of anything else, or of another shape; then
   * none was added. Sums are in pairs, ((0 + 1) + (2 + 3)) + …; `position` is the place of the micro-batch in them, by default
   * the next.
   */
  accumulate(gradients: ReadonlyMap<Parameter, Tensor>, position: number = this.#position): void {
    this.#add(gradients, position, true);
  }

  /** `later`: the gradients are still to be as they are when a replay may have written them anew. */
  #add(gradients: ReadonlyMap<Parameter, Tensor>, position: number, later = false): void {
    checkGradients(gradients, this.#slots, this.#frozen);
    this.#position = position + 1;
    const { capturing } = this.#device.recorder;
    this.#device.at(PLACE, () => {
      for (const [parameter, gradient] of gradients) {
        const slot = this.#slots.get(parameter);
        if (!slot) continue;
        const own = later && !capturing && gradient.buffer.reserve ? copyOf(gradient) : gradient;
        slot.sum.add(position, own.keep());
      }
    });
  }

  /** Takes out what was accumulated of a parameter; the caller releases it. Undefined where that is nothing. */
  takeGradient(parameter: Parameter): Tensor | undefined {
    let gradient: Tensor | undefined;
    const take = () => {
      gradient = this.#slots.get(parameter)?.sum.take();
    };
    this.#device.at(PLACE, () => scope(this.#device, take));
    return gradient;
  }

  /** Puts in the place of what was accumulated of a parameter a gradient that the caller has kept. */
  putGradient(parameter: Parameter, gradient: Tensor): void {
    const sum = this.#slots.get(parameter)?.sum;
    sum?.clear((each) => each.release());
    sum?.add(0, gradient);
  }

  /** Forgets the gradients accumulated since the last step, as after an exception between two micro-batches. */
  zeroGrad(): void {
    for (const { sum } of this.#slots.values()) sum.clear((gradient) => gradient.release());
    this.#position = 0;
  }

  /**
   * One update with these gradients and those accumulated so far, which are then gone. Parameters without a gradient stay as
   * they are. Returns a tensor (3) f32: the factor of the clipping, the global norm before it, and 1 where all gradients
   * are finite. Where that is 0 no parameter has changed, and undo() takes the step back in the counts too. Throws as
   * accumulate() does, for options that are no numbers from 0, and where there is no gradient at all.
   */
  step(gradients?: ReadonlyMap<Parameter, Tensor>, options: StepOptions = {}): Clip {
    checkOptions("step", options, STEP_KEYS);
    const { factor: given = 1, unscale = 1 } = options;
    const factor = () => {
      const value = typeof given === "function" ? given() : given;
      checkNumber("step", "factor", value, "a finite number from 0", fromZero);
      return value;
    };
    const first = factor();
    checkNumber("step", "unscale", unscale, "a finite number above 0", (x) => x > 0 && fromZero(x));
    if (gradients) this.#add(gradients, this.#position);
    this.#position = 0;
    const due = [...this.#slots.values()].filter(({ sum }) => !sum.empty);
    if (due.length === 0)
      throw new Error(
        "Cannot step: there is no gradient; accumulate() some, or give step() those of valueAndGrad()",
      );
    const { capturing } = this.#device.recorder;
    return this.#device.at(PLACE, () => {
      const all = due.map(({ sum }) => sum.take() as Tensor);
      const clip = clipNorm(this.#device, all, this.#maxGradNorm, unscale);
      let current = first;
      this.#count(due);
      for (const [i, slot] of due.entries()) {
        const gradient = all[i];
        const now = () => ({ step: slot.step, rate: slot.learningRate * current });
        this.update({ ...slot, gradient }, clip, slot.learningRate * first, capturing && now);
        gradient.release();
      }
      capturing?.beforeReplay(() => {
        current = factor();
        this.#count(due);
      });
      return clip;
    });
  }

  #count(due: readonly Slot[]): void {
    for (const slot of due) {
      slot.step++;
      slot.parameter.version++;
    }
    this.#last = due;
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

  /**
   * Restores moments and counts. `read` gives a moment by its name. Throws for a parameter without a count, a count without
   * its parameter, and a moment of another size.
   */
  async restore(
    steps: Readonly<Record<string, number>>,
    read: (key: string) => Promise<Float32Array>,
  ): Promise<void> {
    const slots = [...this.#slots.values()];
    const missing = slots.find(({ parameter }) => !Object.hasOwn(steps, parameter.key));
    if (missing) throw new Error(`Cannot resume: no moments were saved for ${missing.parameter.key}`);
    const own = new Set(slots.map(({ parameter }) => parameter.key));
    const left = Object.keys(steps).find((key) => !own.has(key));
    if (left !== undefined)
      throw new Error(`Cannot resume: moments were saved for ${left}, which this optimiser does not train`);
    for (const slot of slots) {
      const { parameter, moments } = slot;
      for (const [i, name] of this.#momentNames.entries()) {
        const all = new Float32Array(moments[i].size);
        for (const { key, shape, offset } of parameter.parts) {
          const values = await read(`${name}.${key}`);
          if (values.length !== sizeOf(shape))
            throw new TypeError(
              `Cannot resume: ${name}.${key} holds ${values.length} values but the model needs ${showShape(shape)}`,
            );
          all.set(values, offset);
        }
        moments[i].write(all);
      }
      slot.step = steps[parameter.key];
    }
  }

  /** Frees moments and gradients, not the parameters. */
  dispose(): void {
    this.zeroGrad();
    for (const { moments } of this.#slots.values()) for (const t of moments) t.release();
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
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8 } = options ?? {};
    const action = `make ${new.target.name}`;
    for (const [name, beta] of Object.entries({ beta1, beta2 }))
      checkNumber(action, name, beta, "from 0 and less than 1", (x) => x >= 0 && x < 1);
    checkNumber(action, "eps", eps, "a finite number from 0", fromZero);
    super(device, parameters, options, ["exp_avg", "exp_avg_sq"], ADAM_KEYS);
    this.#rule = { beta1, beta2, eps };
  }

  protected get decoupled(): boolean {
    return false;
  }

  protected override update(
    { parameter, gradient, moments: [m, v], step, weightDecay }: Slot & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
    now?: () => Progress,
  ): void {
    const rule = { ...this.#rule, step, decay: weightDecay, rate, decoupled: this.decoupled };
    adamStep(parameter.value, gradient, m, v, clip, rule, now);
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
    const { momentum = 0 } = options ?? {};
    checkNumber("make SGD", "momentum", momentum, "a finite number from 0", fromZero);
    super(device, parameters, options, ["momentum_buffer"], SGD_KEYS);
    this.#momentum = momentum;
  }

  protected override update(
    { parameter, gradient, moments: [m], step, weightDecay }: Slot & { readonly gradient: Tensor },
    clip: Clip,
    rate: number,
    now?: () => Progress,
  ): void {
    const rule = { rate, momentum: this.#momentum, decay: weightDecay, step };
    sgdStep(parameter.value, gradient, m, clip, rule, now);
  }
}
