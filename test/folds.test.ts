/** Folds are sessions by name: which one is held out, what is said of it, and what is refused. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Utterance } from "../src/speech/corpora/corpus.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { folds, holdOut, sessionNamed, sessionsOf } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { currentHost } from "../src/host/current.ts";
import { ArgumentError } from "../src/io/argument_error.ts";
import { applySettings, checkConfig } from "../src/speech/recipes/config.ts";
import { identify, numberedSession } from "../src/speech/training/data.ts";
import { formerNames } from "../src/speech/recipes/former_names.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { verb as corpusVerb } from "../tools/corpus.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as trainVerb } from "../tools/train.ts";
import { type TinyOptions, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const scratch = await mkdtemp(join(tmpdir(), "wavegate-folds-"));
const made: (() => Promise<void>)[] = [() => rm(scratch, { recursive: true })];
after(() => Promise.all(made.map((remove) => remove())));

/** A small corpus, removed at the end; `root` is its folder. */
async function release(options: TinyOptions): Promise<string> {
  const { root, remove } = await tinyRelease({ turns: 2, seconds: [0.5, 0.6], ...options });
  made.push(remove);
  return root;
}

const NO_GPU = ["--adapter", "no such adapter"];

/** How far `wavegate train` comes before it asks for a GPU. */
const train = (data: string, ...args: string[]) =>
  runHere(
    trainVerb,
    "--system",
    "acoustic",
    "--preset",
    "nano",
    "--data",
    data,
    ...args,
    ...NO_GPU,
    "--out",
    join(scratch, "run"),
  );

/** The same of evaluate. */
const evaluate = (data: string, ...args: string[]) =>
  runHere(evaluateVerb, "--model", "weights/demo", "--data", data, ...args, ...NO_GPU);

const begun = /^Error: Cannot find adapter/;

test("sessionNamed() takes names and numbers, and sessions stand in the order of their numbers", () => {
  const names = ["Session1", "Session2", "Session05", "Session10"];
  for (const wanted of ["Session05", "5", "05", "Session5", "session5"])
    assert.equal(sessionNamed(names, wanted), "Session05", wanted);
  assert.equal(sessionNamed(names, "1"), "Session1");
  assert.equal(sessionNamed(names, "10"), "Session10");
  for (const wanted of ["", "0", "3", "Session", "1.0", "-1", "Session1x"])
    assert.equal(sessionNamed(names, wanted), undefined, wanted);
  assert.equal(sessionNamed(["Session5", "Session05"], "5"), undefined, "of two it is neither");
  assert.equal(sessionNamed(["Session5", "Session05"], "Session05"), "Session05");
});

test("train --fold N holds out the session of that number, and says whom", async () => {
  const ten = await release({ sessions: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] });
  const heldOut = async (data: string, ...args: string[]) => {
    const { error, notes } = await train(data, ...args);
    assert.match(String(error), begun);
    return notes.filter((line) => line.includes("held out:"));
  };
  const two = "Session2 held out: 4 utterances of speakers 02F, 02M; 32 to learn from, 4 to choose the epoch";
  assert.deepEqual(await heldOut(ten, "--fold", "2"), [two]);
  assert.deepEqual(await heldOut(ten, "--fold", "Session2"), [two]);
  assert.deepEqual(await heldOut(ten, "--set", "fold=2"), [two]);
  assert.match((await heldOut(ten, "--fold", "10"))[0], /^Session10 held out: .* speakers 10F, 10M;/);
  assert.match((await heldOut(ten))[0], /^Session5 held out/);
  const gap = await release({ sessions: [1, 2, 3, 5] });
  assert.match((await heldOut(gap, "--fold", "5"))[0], /^Session5 held out/);
  const silent = await release({ sessions: [1, 2, 3, 4, 5], silent: [3] });
  assert.match((await heldOut(silent, "--fold", "4"))[0], /^Session4 held out/);
});

test("train and evaluate name the sessions where a fold is none, and say where nothing of it can be used", async () => {
  const data = await release({ sessions: [1, 2, 3, 4], silent: [3] });
  for (const run of [train, evaluate]) {
    const { error } = await run(data, "--fold", "5");
    assert.ok(error instanceof ArgumentError);
    assert.match(
      error.message,
      /fold 5 of .*: its sessions are Session1, Session2, Session3, Session4, its speakers 01F, 01M, 02F, 02M, 04F, 04M$/,
    );
    const empty = (await run(data, "--fold", "3")).error;
    assert.ok(!(empty instanceof ArgumentError));
    assert.match(
      String(empty),
      /^Error: Cannot .* Session3 of .*: none of its utterances can be used \(missing wav 4 .*\); sessions with some: Session1, Session2, Session4$/,
    );
  }
  const { error, notes } = await train(data);
  assert.match(String(error), begun);
  assert.ok(
    notes.some((line) =>
      /^no --fold, and .* has no Session5: its last session, Session4, is held out$/.test(line),
    ),
  );
  assert.match(
    String((await train(data, "--fold", "1", "--set", "fold=2")).error),
    /both name the session held out$/,
  );
});

test("a run of version 0.1 keeps its recipe's hash and holds out the session that its number meant", async () => {
  const data = await release({ sessions: [1, 2, 3, 10] });
  const old = checkConfig(
    applySettings(trainConfig({ preset: "nano", system: "acoustic", data, fold: 2 }), []),
    "the test",
  );
  assert.equal(old.fold, 2);
  const { recipe } = await identify(old, undefined);
  assert.equal(recipe, "5c78b6be16263162", "as version 0.1 noted it in state.json");
  const then = formerNames(old);
  const { rate, decay, clip, recompute, augment } = then.stage1 as unknown as Record<string, unknown>;
  assert.deepEqual(
    [rate, decay, clip, recompute, augment],
    [{ encoder: 1.5e-3, heads: 1.5e-3 }, 0.01, 1, false, { speed: 0.12, throat: 0, tilt: 0.2, noise: 0.05 }],
  );
  assert.deepEqual(checkConfig(then, "the test"), old);
  assert.notEqual(recipe, (await identify({ ...old, fold: "2" }, undefined)).recipe);
  const { utterances } = await examine(host, await readIemocap(host, data));
  assert.equal(numberedSession(2, utterances), "Session10", "sorted as text, it is the second");
  const run = join(scratch, "old");
  await host.makeDirectory(run);
  await writeFile(join(run, "config.json"), JSON.stringify(then));
  const { error, notes } = await runHere(trainVerb, "--resume", "--out", run, ...NO_GPU);
  assert.match(String(error), begun);
  assert.ok(
    notes.some((line) => /^fold 2 of a run that counted .*: Session10$/.test(line)),
    notes.join("\n"),
  );
  assert.ok(notes.some((line) => line.startsWith("Session10 held out: 4 utterances")));
  await writeFile(join(run, "config.json"), JSON.stringify({ ...old, fold: 9 }));
  const beyond = await runHere(trainVerb, "--resume", "--out", run, ...NO_GPU);
  assert.match(String(beyond.error), /Cannot hold out fold 9: .* has 4 sessions$/);
  await writeFile(join(run, "config.json"), JSON.stringify({ ...old, fold: "Session4" }));
  const gone = await runHere(trainVerb, "--resume", "--out", run, ...NO_GPU);
  assert.match(
    String(gone.error),
    /^Error: Cannot resume with .*: it has no Session4, which the run holds out; its sessions are Session1, /,
  );
});

test("holdOut() takes the dev set that version 0.1 took, and refuses one that leaves nothing to learn from", () => {
  const utterances = (sessions: number[], dialogues: number): Utterance[] =>
    sessions.flatMap((s) =>
      Array.from({ length: dialogues }, (_, d) => {
        const dialogue = `Ses0${s}F_impro0${d}`;
        const session = `Session${s}`;
        return {
          id: `${dialogue}_F000`,
          wav: "",
          text: "",
          words: "",
          speaker: `0${s}F`,
          session,
          dialogue,
          improvised: true,
        };
      }),
    );
  const { dev } = holdOut(utterances([1, 2, 3], 9), "Session2", { seed: 1, dev: 0.1 });
  assert.deepEqual(
    dev.map((u) => u.dialogue),
    ["Ses01F_impro00", "Ses03F_impro07"],
  );
  const few = utterances([1, 2], 1);
  assert.throws(
    () => holdOut(few, "Session2"),
    /^RangeError: Cannot make folds: with Session2 held out 1 dialogues are left \(Ses01F_impro00\), and dev, .* would take 1: /,
  );
  assert.equal(holdOut(few, "Session2", { dev: 0 }).train.length, 1);
  assert.deepEqual(sessionsOf(utterances([10, 9, 1], 1)), ["Session1", "Session9", "Session10"]);
  assert.throws(() => folds([]), /need at least two sessions, no utterance can be used$/);
});

test("corpus, train and evaluate tell of missing files before they say that nothing is left", async () => {
  const data = await release({ sessions: [1, 2, 3], silent: [1, 2, 3], turns: 4 });
  const expected = /need at least two sessions, no utterance can be used$|none of its utterances can be used/;
  const checked = await runHere(corpusVerb, "check", data);
  assert.match(String(checked.error), expected);
  assert.ok(checked.printed.includes("problems: missing wav 24"));
  assert.equal(checked.printed.filter((line) => line.endsWith(": missing wav, left out")).length, 24);
  assert.equal(checked.json.problems.length, 24);
  const stats = await runHere(corpusVerb, "stats", data);
  assert.match(String(stats.error), /^Error: Cannot measure baselines: no utterance of .* is angry or /);
  assert.equal(stats.printed.filter((line) => line.endsWith(": missing wav, left out")).length, 24);
  for (const { error, notes } of [await train(data, "--fold", "2"), await evaluate(data, "--fold", "2")]) {
    assert.match(String(error), expected);
    assert.match(notes[0], /^24 problems in .*: missing wav 24$/);
    assert.equal(notes.filter((line) => line.endsWith(": missing wav, left out")).length, 10);
    assert.match(notes[11], /^ {2}and 14 more; /);
  }
});

test("readIemocap() finds clips called .WAV, and names a session without ratings", async () => {
  const data = await release({ sessions: [1, 2, 3] });
  const folder = join(data, "Session2/sentences/wav/Ses02F_impro01");
  for (const name of await readdir(folder))
    await rename(join(folder, name), join(folder, name.replace(".wav", ".WAV")));
  await rm(join(data, "Session3/dialog/EmoEvaluation"), { recursive: true });
  const corpus = await readIemocap(host, data);
  const { utterances, sessions, problems } = corpus;
  assert.equal(utterances.length, 8);
  assert.deepEqual(sessions, ["Session1", "Session2", "Session3"]);
  assert.deepEqual(problems, [
    { id: "Session3", kind: "incomplete release", handled: "left out: it has no dialog/EmoEvaluation" },
  ]);
  assert.deepEqual((await examine(host, corpus)).problems, problems);
  assert.match(
    String((await train(data, "--fold", "3")).error),
    /Session3 of .*: none of its utterances can be used \(incomplete release 1/,
  );
});
