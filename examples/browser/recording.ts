/** Reads a recording, has it recognised, and shows what was found while it is. */
import type { Host, RecognizedSegment, Recognizer } from "wavegate";
import {
  type Analysis,
  analyse,
  emotionsOfSegments,
  emotionsOfWindows,
  type Heard,
  kernelsOf,
  TIMED,
} from "./analyse.ts";
import { openRecording, type Recording } from "./audio.ts";
import { colour, emotions, gates, timeline, totals, waveform } from "./charts.ts";
import { element, find } from "./elements.ts";

export { analyseWhole } from "./analyse.ts";

/** Milliseconds between two drawings of a recording that is being heard. */
const REDRAW = 500;

/** A recording through everything; each part appears as it is ready. */
export async function showRecording(
  host: Host,
  recognizer: Recognizer,
  file: Blob,
  name: string,
): Promise<void> {
  const recording = await openRecording(host, file);
  let heard: Heard;
  try {
    heard = await hear(recognizer, recording, name);
  } finally {
    find("progress").hidden = true;
    await recording.close();
  }
  const { found, outline, samples } = heard;
  const player = find<HTMLAudioElement>("player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  showAnswer(found, name);
  find("wave").innerHTML = waveform(outline, found.words, found.seconds);
  find("gates").innerHTML = gates(found, found.seconds);
  for (const id of ["emotions", "windows", "timeline", "legend", "kernels"]) find(id).replaceChildren();
  find("tip").hidden = true;
  document.body.dataset.shown = "";
  if (found.silent) {
    document.body.dataset.shown = name;
    return;
  }
  if (found.probabilities) {
    const { segments } = found;
    const { spans, note } = segments
      ? emotionsOfSegments(segments)
      : await emotionsOfWindows(recognizer, samples);
    find("emotions").innerHTML = emotions(spans, Object.keys(found.probabilities), found.seconds);
    find("windows").textContent = note;
  } else find("emotions").textContent = "This model names no emotion.";
  await showKernels(recognizer, samples, found.segments !== undefined);
  document.body.dataset.shown = name;
}

/** Recognises a recording, and shows how far that is; of a long one also what is known so far. Stop ends it where it is. */
async function hear(recognizer: Recognizer, { seconds, pieces }: Recording, name: string): Promise<Heard> {
  let stopped = false;
  find("stop").onclick = () => {
    stopped = true;
  };
  const until = (async function* () {
    for await (const piece of pieces) {
      yield piece;
      if (stopped) return;
    }
  })();
  const bar = find<HTMLProgressElement>("done");
  let drawn = performance.now();
  return await analyse(recognizer, until, (read, known) => {
    find("progress").hidden = false;
    if (seconds === undefined) bar.removeAttribute("value");
    else bar.value = Math.min(1, read / seconds);
    find("heard").textContent = `${clock(read)}${seconds === undefined ? "" : ` of ${clock(seconds)}`} heard`;
    if (performance.now() - drawn < REDRAW) return;
    const { found, outline } = known();
    showAnswer(found, name);
    find("wave").innerHTML = waveform(outline, found.words, found.seconds);
    drawn = performance.now();
  });
}

const clock = (seconds: number): string =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** The words, the probabilities and the time that they took. */
export function showAnswer(
  { seconds, milliseconds, silent, text, probabilities = {}, segments }: Analysis,
  name: string,
): void {
  find("result").hidden = false;
  find("name").textContent = name;
  const shown = silent ? "(silent)" : (text ?? "(this model writes no words)");
  find("words").textContent = segments ? segmentsLine(segments) : shown;
  find("segments").replaceChildren(...(segments ?? []).map(segmentItem));
  const ratio = (milliseconds / 1000 / seconds).toFixed(2);
  find("times").textContent =
    `${seconds.toFixed(2)} s of sound in ${milliseconds.toFixed(0)} ms, ${ratio} × its length`;
  const list = find("probabilities");
  list.replaceChildren();
  const first = Math.max(...Object.values(probabilities));
  for (const [k, [label, p]] of Object.entries(probabilities).entries()) {
    const className = p === first ? "first" : "";
    const [bar, fill] = [element("dd", "", { className: "bar" }), element("i", "")];
    fill.style.cssText = `width:${(100 * p).toFixed(1)}%;background:${colour(k)}`;
    bar.append(fill);
    list.append(element("dt", label, { className }), bar, element("dd", p.toFixed(3), { className }));
  }
}

const segmentsLine = ({ length }: readonly RecognizedSegment[]): string =>
  `${length === 0 ? "No" : length} segment${length === 1 ? "" : "s"} of speech`;

/** A segment's begin, emotion and words; a click plays it. */
function segmentItem({ start, emotion, probabilities = {}, transcript }: RecognizedSegment): HTMLElement {
  const item = element("button", "", { title: "play from here" });
  item.onclick = () => {
    const player = find<HTMLAudioElement>("player");
    player.currentTime = start;
    void player.play();
  };
  item.append(element("time", clock(start)));
  if (emotion !== undefined) {
    const swatch = element("i", "", { className: "swatch" });
    swatch.style.background = colour(Object.keys(probabilities).indexOf(emotion));
    const label = element("small", emotion);
    label.prepend(swatch);
    item.append(label);
  }
  item.append(element("span", transcript?.text ?? ""));
  const entry = element("li", "");
  entry.append(item);
  return entry;
}

async function showKernels(recognizer: Recognizer, samples: Float32Array, long: boolean): Promise<void> {
  const [caption, legend] = [find("kernels"), find("legend")];
  legend.replaceChildren();
  const events = await kernelsOf(recognizer, samples);
  if (!events || events.length === 0) {
    caption.textContent = "this adapter, or this browser, has no timestamps";
    return find("timeline").replaceChildren();
  }
  const sums = totals(events);
  const whole = sums.reduce((sum, [, ms]) => sum + ms, 0);
  const which = long ? `the first ${TIMED} s: ` : "";
  caption.textContent = `${which}${events.length} dispatches, ${whole.toFixed(2)} ms on the GPU; browsers round timestamps, Chrome to 0.1 ms`;
  find("timeline").innerHTML = timeline(events);
  const rest = sums.slice(7).reduce((sum, [, ms]) => sum + ms, 0);
  const named: [string, number][] = [
    ...sums.slice(0, 7),
    ...(rest > 0 ? [["others", rest] as [string, number]] : []),
  ];
  for (const [k, [kernel, ms]] of named.entries()) {
    const swatch = element("i", "", { className: "swatch" });
    swatch.style.background = colour(k);
    const entry = element("span", "");
    entry.append(swatch, `${kernel} ${ms.toFixed(2)} ms`);
    legend.append(entry);
  }
}
