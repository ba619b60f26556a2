import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

test("demo takes a recording through every stage, each within 1e-5 of PyTorch, and then all recordings", () => {
  const { status, stdout } = spawnSync(process.execPath, [...runtime, "tools/demo.ts", "--json"], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0);
  const { stages, pass, clips } = JSON.parse(stdout);
  assert.equal(pass, true);
  assert.ok(stages.length >= 12, `${stages.length} stages`);
  for (const { stage, relL2 } of stages) assert.ok(relL2 < 1e-5, `${stage} is ${relL2} from PyTorch`);
  const names = stages.map((s: { stage: string }) => s.stage);
  for (const name of ["samples, normalised", "CTC logits", "BERT's subwords", "emotion probabilities"])
    assert.ok(names.includes(name), `${name} is not shown`);
  assert.ok(clips.length >= 2);
  for (const clip of clips) assert.ok(clip.words.length > 0 && clip.emotion.length > 0);
});

test("demo says whether its weights are trained, on whichever adapter it runs", () => {
  const { status, stdout } = spawnSync(process.execPath, [...runtime, "tools/demo.ts"], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0);
  assert.match(stdout, /^adapter {2}\S.*\nmodel {4}weights\/(default|demo), [\d.]+ [KM]iB of weights/);
  assert.equal(/UNTRAINED/.test(stdout), stdout.includes("weights/demo"));
  assert.match(stdout, /All \d+ stages agree with PyTorch; the farthest, .+, is \d\.\de-\d+ away\./);
  assert.match(stdout, /LJ001-0002\.wav is a human voice .*: \d of 4 words right\.\n\d of 8 emotions right;/);
});
