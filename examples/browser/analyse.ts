/** A recording through the model: words, emotion over time, gates over time, and how long the kernels took. */
import type { DecodedWord, ProfileEvent, Recognizer, Tensor } from "wavegate";

const RATE = 16000;
/** Seconds of the longest piece that is recognised at once. */
const PIECE = 20;

/** Values over time. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly value: number;
}

/** What the page shows of a recording. */
export interface Analysis {
  readonly seconds: number;
  readonly silent: boolean;
  readonly text?: string;
  readonly words: readonly DecodedWord[];
  /** Of pieces the mean, weighted by their lengths. */
  readonly probabilities?: Readonly<Record<string, number>>;
  /** Of the means over a frame's features. */
  readonly speechGates: readonly Span[];
  /** Of the means over the features of a word's subwords. */
  readonly textGates: readonly Span[];
  /** That the recognition took. */
  readonly milliseconds: number;
}

/** Where a recording is cut into pieces: at the quietest 50 ms of the last 4 s of each. */
function cuts(samples: Float32Array): [number, number][] {
  const found: [number, number][] = [];
  const step = RATE / 20;
  let begin = 0;
  while (samples.length - begin > PIECE * RATE) {
    let [best, least] = [begin + PIECE * RATE, Number.POSITIVE_INFINITY];
    for (let at = begin + (PIECE - 4) * RATE; at < begin + PIECE * RATE; at += step) {
      const energy = samples.subarray(at, at + step).reduce((sum, x) => sum + x * x, 0);
      if (energy < least) [best, least] = [at + step / 2, energy];
    }
    found.push([begin, best]);
    begin = best;
  }
  return [...found, [begin, samples.length]];
}

/** The means of (1, T, d) over d. */
async function meansOf(tensor: Tensor): Promise<number[]> {
  const [, T, d] = tensor.shape;
  const values = await tensor.read();
  return Array.from(
    { length: T },
    (_, t) => values.subarray(t * d, (t + 1) * d).reduce((a, x) => a + x, 0) / d,
  );
}

export async function analyse(recognizer: Recognizer, samples: Float32Array): Promise<Analysis> {
  const began = performance.now();
  const words: DecodedWord[] = [];
  const [speechGates, textGates]: [Span[], Span[]] = [[], []];
  const sums: Record<string, number> = {};
  const texts: string[] = [];
  let heard = 0;
  for (const [begin, end] of cuts(samples)) {
    const gates: Partial<Record<string, Promise<number[]>>> = {};
    const observe = (name: string, tensor: Tensor) => {
      if (name === "cmgi.gate_s" || name === "cmgi.gate_t") gates[name] = meansOf(tensor);
    };
    const [found] = await recognizer.recognize([samples.subarray(begin, end)], { observe });
    if (found.silent) continue;
    const offset = begin / RATE;
    heard += found.seconds;
    if (found.transcript?.text) texts.push(found.transcript.text);
    const own = (found.transcript?.words ?? []).map((word) => moved(word, offset));
    words.push(...own);
    for (const [label, p] of Object.entries(found.probabilities ?? {}))
      sums[label] = (sums[label] ?? 0) + p * found.seconds;
    const [speech, text] = [(await gates["cmgi.gate_s"]) ?? [], (await gates["cmgi.gate_t"]) ?? []];
    const frame = found.seconds / speech.length;
    for (const [t, value] of speech.entries())
      speechGates.push({ start: offset + t * frame, end: offset + (t + 1) * frame, value });
    textGates.push(...(await gatesOfWords(recognizer, own, text)));
  }
  const labels = Object.entries(sums).map(([label, sum]) => [label, sum / heard]);
  return {
    ...{ seconds: samples.length / RATE, silent: heard === 0, words, speechGates, textGates },
    text: recognizer.model.vocabulary && texts.join(" "),
    probabilities: labels.length > 0 ? Object.fromEntries(labels) : undefined,
    milliseconds: performance.now() - began,
  };
}

const moved = ({ start, end, ...word }: DecodedWord, offset: number): DecodedWord => ({
  ...word,
  start: start + offset,
  end: end + offset,
});

/** The gates of subwords, [CLS] first, as those of the words that they are parts of. */
async function gatesOfWords(
  { model }: Recognizer,
  words: readonly DecodedWord[],
  gates: readonly number[],
): Promise<Span[]> {
  const spans: Span[] = [];
  let at = 1;
  for (const { text, start, end } of words) {
    const count = ((await model.tokenizer?.encode(text))?.ids.length ?? 2) - 2;
    const own = gates.slice(at, at + count);
    if (own.length > 0) spans.push({ start, end, value: own.reduce((a, x) => a + x, 0) / own.length });
    at += count;
  }
  return spans;
}

/** Probabilities of windows, each recognised by itself. */
export interface Windows {
  readonly seconds: number;
  readonly rows: readonly {
    readonly at: number;
    readonly probabilities?: Readonly<Record<string, number>>;
  }[];
}

/** Windows of a third of the recording, 1 to 3 s, at quarters of their length; none where it is shorter than a second. */
export async function emotionOverTime(recognizer: Recognizer, samples: Float32Array): Promise<Windows> {
  const length = Math.round(Math.min(3, Math.max(0.8, samples.length / RATE / 3)) * RATE);
  const count = Math.max(0, Math.floor((samples.length - length) / (length / 4)) + 1);
  const windows = Array.from({ length: count }, (_, i) => {
    const begin = Math.round((i * length) / 4);
    return samples.subarray(begin, begin + length);
  });
  const found = await recognizer.recognize(windows);
  return {
    seconds: length / RATE,
    rows: found.map(({ probabilities }, i) => ({ at: ((i + 2) * length) / 4 / RATE, probabilities })),
  };
}

/** Every dispatch of one recognition, with timestamps; undefined where the adapter has none. */
export async function kernelsOf(
  recognizer: Recognizer,
  samples: Float32Array,
): Promise<readonly ProfileEvent[] | undefined> {
  const { device } = recognizer;
  if (!device.info.timestamps) return undefined;
  device.startProfile();
  const { profiler } = device.recorder;
  try {
    await recognizer.recognize([samples.subarray(0, PIECE * RATE)], { skipSilence: false });
  } finally {
    await device.endProfile();
  }
  return profiler?.events;
}
