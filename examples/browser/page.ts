/** The page: opens the model once, then shows what it makes of each recording. `?model=ADDRESS` names another model. */
import { currentHost, type Device, type Host, openDevice, openRecognizer, type Recognizer } from "wavegate";
import { element, find } from "./elements.ts";
import type { Microphone } from "./microphone.ts";

const [file, record, notice, device] = [
  find<HTMLInputElement>("file"),
  find<HTMLButtonElement>("record"),
  find("notice"),
  find("device"),
];
const address = new URLSearchParams(location.search).get("model") ?? "model";

function say(message: string | undefined): void {
  notice.hidden = message === undefined;
  notice.textContent = message ?? "";
}

/** Runs one thing at a time; what fails is said. */
let running: Promise<void> = Promise.resolve();
function run(action: () => Promise<void>): Promise<void> {
  running = running.then(async () => {
    say(undefined);
    document.body.setAttribute("aria-busy", "true");
    try {
      await action();
    } catch (error) {
      say((error as Error).message);
    }
    document.body.removeAttribute("aria-busy");
  });
  return running;
}

const host: Host = await currentHost();
let recognizer: Recognizer | undefined;

async function open(): Promise<void> {
  const began = performance.now();
  let gpu: Device | undefined;
  try {
    gpu = await openDevice(host);
    const { name, path, f16 } = gpu.info;
    recognizer = await openRecognizer(host, gpu, address, {
      onProgress: (done, total) => {
        device.textContent = `${name}: loading ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
      },
    });
    // Kernels compile at their first run, which would make the first recording look slow.
    const noise = Float32Array.from({ length: 16000 }, (_, i) => 0.1 * Math.sin(i * i));
    await recognizer.recognize([noise]);
    const took = Math.round(performance.now() - began);
    const kinds = `${path} kernels${f16 ? ", f16" : ""}`;
    device.textContent = `${gpu.info.vendor} ${name}, ${kinds}; model ready in ${took} ms`;
    device.className = "ready";
  } catch (error) {
    gpu?.dispose();
    device.textContent = "No model is open";
    device.className = "failed";
    throw error;
  }
  const { model } = recognizer;
  const own =
    address === "model"
      ? "The model of this page knows 293 words of one speech synthesiser and no human voice: record yourself to see it work, not to be understood. "
      : "";
  find("model").textContent = [
    `${own}Model: ${new URL(address, document.baseURI).href}`,
    ...model.notes,
  ].join(". ");
  file.disabled = false;
  record.disabled = false;
  await listClips();
}

/** Buttons for the recordings that come with a model, where it has some. */
async function listClips(): Promise<void> {
  const list = `${address}/clips/clips.json`;
  if ((await host.kind(list)) !== "file") return;
  const clips: { file: string; text: string; label: string }[] = JSON.parse(await host.readText(list));
  for (const { file: name, text, label } of clips) {
    const button = element("button", `${text} `, { title: name });
    button.append(element("small", label));
    button.onclick = () =>
      run(async () => {
        const bytes = await host.readBytes(`${address}/clips/${name}`);
        await show(new Blob([bytes as Uint8Array<ArrayBuffer>]), `${name}: “${text}”, meant to be ${label}`);
      });
    find("clips").append(button);
  }
}

/** What reads, recognises and draws recordings comes with the first, and what listens when that is asked for. */
const parts = () => import("./recording.ts");
const listening = () => import("./microphone.ts");

async function show(recording: Blob, name: string): Promise<void> {
  if (recognizer) await (await parts()).showRecording(host, recognizer, recording, name);
}

/** While the microphone is on: what the last 6 s say, again and again. */
let microphone: Microphone | undefined;
async function listen(): Promise<void> {
  const { analyseWhole, showAnswer } = await parts();
  microphone = await (await listening()).openMicrophone();
  record.textContent = "Stop";
  record.className = "on";
  while (microphone && recognizer) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const last = microphone?.heard().slice(-6 * 16000);
    if (!last || last.length < 16000) continue;
    const found = await analyseWhole(recognizer, last);
    if (microphone) showAnswer(found, "listening; the last 6 s");
  }
}

async function stop(): Promise<void> {
  const samples = microphone?.heard() ?? new Float32Array();
  microphone?.stop();
  microphone = undefined;
  record.textContent = "Record";
  record.className = "";
  await run(async () => {
    if (samples.length === 0) throw new Error("Cannot use the microphone: it gave no sound");
    await show((await listening()).wavOf(samples), "Recorded here");
  });
}

record.onclick = () => (microphone ? stop() : run(listen));
file.onchange = () => {
  const [chosen] = file.files ?? [];
  if (chosen) void run(() => show(chosen, chosen.name));
  file.value = "";
};
const drop = find("drop");
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [dropped] = event.dataTransfer?.files ?? [];
  if (dropped) void run(() => show(dropped, dropped.name));
});
const tip = find("tip");
addEventListener("mousemove", ({ target, clientX, clientY }) => {
  const said = (target as Element).closest?.("[data-tip]")?.getAttribute("data-tip");
  tip.hidden = !said;
  tip.textContent = said ?? "";
  tip.style.left = `${Math.min(clientX + 12, innerWidth - 260)}px`;
  tip.style.top = `${clientY + 14}px`;
});
await run(open);
