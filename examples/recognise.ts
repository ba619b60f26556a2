/**
 * Words and an emotion out of recordings, with the bundled model.
 *
 *     npx tsx examples/recognise.ts [FILE.wav …]
 */
import process from "node:process";
import { bundledModel, currentHost, openDevice, openRecognizer, readWav } from "wavegate";

const host = await currentHost();
const device = await openDevice(host);
const model = bundledModel();
const given = process.argv.slice(2);
const files = given.length > 0 ? given : [`${model}/clips/Ses05F_impro03_F000.wav`];

using recognizer = await openRecognizer(host, device, model);
const audios = await Promise.all(files.map(async (file) => (await readWav(host, file)).samples));
const results = await recognizer.recognize(audios, { beam: 8 });
for (const [i, { transcript, emotion, probabilities, silent }] of results.entries()) {
  console.log(files[i]);
  if (silent) {
    console.log("  nothing to be heard");
    continue;
  }
  console.log(`  words    ${transcript?.text}`);
  for (const { text, start, end } of transcript?.words ?? [])
    console.log(`           ${start.toFixed(2)} to ${end.toFixed(2)} s  ${text}`);
  const each = Object.entries(probabilities ?? {}).map(([label, p]) => `${label} ${p.toFixed(2)}`);
  console.log(`  emotion  ${emotion}  (${each.join(", ")})`);
}
