import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { summarizeProblems } from "../src/speech/corpora/corpus.ts";
import { ctcFrames, examine } from "../src/speech/corpora/examine.ts";
import { parseEvaluation, parseTranscripts, readIemocap } from "../src/speech/corpora/iemocap.ts";
import { currentHost } from "../src/host/current.ts";
import { writeWav16 } from "../src/io/wav.ts";

const host = await currentHost();

interface Turn {
  id: string;
  code: string;
  /** Undefined: no line in the transcript. */
  text?: string;
  /** 0: no wav. */
  seconds?: number;
}

/** A miniature release in a temporary folder; files by path from its root. */
async function release(
  turns: Turn[],
  more: Record<string, string | Uint8Array> = {},
  newline = "\n",
): Promise<{ root: string; [Symbol.asyncDispose](): Promise<void> }> {
  const root = await mkdtemp(join(tmpdir(), "iemocap-"));
  const put = async (path: string, content: string | Uint8Array) => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  };
  const dialogues = new Set(turns.map(({ id }) => id.slice(0, id.lastIndexOf("_"))));
  for (const dialogue of dialogues) {
    const own = turns.filter(({ id }) => id.startsWith(`${dialogue}_`) && id.length === dialogue.length + 5);
    const session = `Session${dialogue[4]}`;
    const header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]";
    const blocks = own.map(({ id, code }, i) =>
      [
        `[${(i + 6.2901).toFixed(4)} - ${(i + 8.2357).toFixed(4)}]\t${id}\t${code}\t[2.5000, 2.5000, 2.5000]`,
        "C-E2:\tNeutral state;\t()",
        "C-E3:\tAnger; Frustration;\t(angry, see [5.0 - 6.0])",
        ...(i % 2 === 0 ? ["A-E3:\tval 3; act 2; dom  2;\t()"] : []),
        "C-F1:\tNeutral state;\t()",
      ].join(newline),
    );
    const lines = own
      .filter(({ text }) => text !== undefined)
      .map(({ id, text }) => `${id} [006.2901-008.2357]: ${text}`);
    await put(
      `${session}/dialog/EmoEvaluation/${dialogue}.txt`,
      [header, "", ...blocks.flatMap((block) => [block, ""])].join(newline),
    );
    await put(`${session}/dialog/transcriptions/${dialogue}.txt`, lines.join(newline));
    await mkdir(join(root, session, "sentences/wav", dialogue), { recursive: true });
    for (const { id, seconds = 1 } of own) {
      if (seconds === 0) continue;
      const samples = new Float32Array(Math.round(16_000 * seconds)).fill(0.01);
      await writeWav16(host, join(root, session, "sentences/wav", dialogue, `${id}.wav`), samples);
    }
  }
  for (const [path, content] of Object.entries(more)) await put(path, content);
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}

test("parseEvaluation() takes the consensus line of a block and no vote, comment or self-report", () => {
  const text = [
    "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
    "",
    "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
    "C-E2:\tNeutral state;\t()",
    "A-E3:\tval 3; act 2; dom  2;\t()",
    "C-F1:\tAnger;\t([1.0 - 2.0] no)",
    "",
    "[10.0100 - 11.3925]\tSes01F_impro01_F001\txxx\t[2.5000, nan, 2.5000]",
  ].join("\r\n");
  assert.deepEqual(parseEvaluation(text), [
    { id: "Ses01F_impro01_F000", code: "neu", start: 6.2901, end: 8.2357 },
    { id: "Ses01F_impro01_F001", code: "xxx", start: 10.01, end: 11.3925 },
  ]);
});

test("parseTranscripts() leaves lines without an id out, whatever the line ends", () => {
  const text = [
    "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.",
    "M: [OVERLAPPING] yeah",
    "F: okay",
    "Ses01F_impro01_MXX0 [014.0000-015.0000]: Mm-hmm.",
    "Ses01F_impro01_M000 [007.5712-010.4750]: Do you have your forms?  ",
  ];
  // The last as files look that were put one behind another.
  for (const newline of ["\n", "\r", "\r\n", "\n\ufeff"]) {
    const transcripts = parseTranscripts(text.join(newline));
    assert.deepEqual(
      [...transcripts.keys()],
      ["Ses01F_impro01_F000", "Ses01F_impro01_MXX0", "Ses01F_impro01_M000"],
    );
    assert.equal(transcripts.get("Ses01F_impro01_M000"), "Do you have your forms?");
  }
});

test("readIemocap() merges excitement into happiness and counts the other labels", async () => {
  await using tree = await release([
    { id: "Ses01F_impro01_F000", code: "ang", text: "Go away!" },
    { id: "Ses01F_impro01_F001", code: "hap", text: "Nice." },
    { id: "Ses01F_impro01_F002", code: "exc", text: "Wow." },
    { id: "Ses01F_impro01_F003", code: "sad", text: "No." },
    { id: "Ses01F_impro01_F004", code: "neu", text: "Yes." },
    { id: "Ses01F_impro01_F005", code: "fru", text: "Again?" },
    { id: "Ses01F_impro01_F006", code: "xxx", text: "Hm." },
    { id: "Ses01F_impro01_F007", code: "xxx", text: "Hm." },
  ]);
  const corpus = await readIemocap(host, tree.root);
  const labels = corpus.utterances.map((u) => u.label);
  assert.deepEqual(labels, ["angry", "happy", "happy", "sad", "neutral"]);
  assert.deepEqual(Object.fromEntries(corpus.otherLabels), { fru: 1, xxx: 2 });
  assert.deepEqual(corpus.problems, []);
  assert.equal(corpus.name, "IEMOCAP");
  const all = await readIemocap(host, tree.root, { all: true });
  assert.equal(all.utterances.length, 8);
  assert.equal(all.utterances[5].label, undefined);
});

test("readIemocap() takes the speaker from the last letter, not from the marker wearer", async () => {
  await using tree = await release([
    { id: "Ses02F_script01_3_M004", code: "ang", text: "What?" },
    { id: "Ses02M_script01_3_F004", code: "ang", text: "Well?" },
  ]);
  const { utterances } = await readIemocap(host, tree.root);
  assert.deepEqual(
    utterances.map(({ id, speaker, session, improvised }) => [id, speaker, session, improvised]),
    [
      ["Ses02F_script01_3_M004", "02M", "Session2", false],
      ["Ses02M_script01_3_F004", "02F", "Session2", false],
    ],
  );
});

test("readIemocap() keeps dialogues 05a and 05b apart, and script01_1 and script01_1b", async () => {
  const ids = [
    "Ses03M_impro05a_F000",
    "Ses03M_impro05b_F000",
    "Ses03M_impro08a_M000",
    "Ses05M_script01_1_F003",
    "Ses05M_script01_1b_F003",
  ];
  await using tree = await release(ids.map((id) => ({ id, code: "neu", text: `This is ${id.length}.` })));
  const { utterances } = await readIemocap(host, tree.root);
  assert.deepEqual(
    utterances.map((u) => u.id),
    ids,
  );
  assert.equal(new Set(utterances.map((u) => u.dialogue)).size, 5);
});

test("readIemocap() passes over hidden copies, single raters' folders and a missing alignment", async () => {
  const dialogue = "Ses03F_impro07";
  const one = `[1.0000 - 2.0000]\t${dialogue}_F999\tang\t[2.5, 2.5, 2.5]\n`;
  await using tree = await release([{ id: `${dialogue}_M030`, code: "sad", text: "Gone." }], {
    [`Session3/dialog/EmoEvaluation/._${dialogue}.txt`]: one,
    [`Session3/dialog/EmoEvaluation/Categorical/${dialogue}_e1_cat.txt`]: one,
    [`Session3/dialog/EmoEvaluation/Self-evaluation/${dialogue}.txt`]: one,
    "Session3/dialog/EmoEvaluation/.DS_Store": new Uint8Array([0, 1, 2]),
    [`Session3/sentences/wav/${dialogue}/._${dialogue}_M030.wav`]: new Uint8Array([0, 5, 22, 7]),
    "._Session3": "",
  });
  const { utterances, problems } = await readIemocap(host, tree.root);
  assert.deepEqual(
    utterances.map((u) => u.id),
    [`${dialogue}_M030`],
  );
  assert.deepEqual(problems, []);
});

test("readIemocap() reads files with CR line ends and blocks without votes", async () => {
  await using tree = await release(
    [
      { id: "Ses04M_impro02_F000", code: "sad", text: "I lost it." },
      { id: "Ses04M_impro02_M000", code: "neu", text: "I see." },
    ],
    {},
    "\r",
  );
  const { utterances } = await readIemocap(host, tree.root);
  assert.deepEqual(
    utterances.map((u) => [u.label, u.words]),
    [
      ["sad", "I LOST IT"],
      ["neutral", "I SEE"],
    ],
  );
});

/** A transcript file of one line in an encoding of Windows programs. */
const ENCODED: [string, (text: string) => Buffer, string | undefined][] = [
  ["UTF-8 with a byte order mark", (text) => Buffer.from(`\ufeff${text}`), undefined],
  ["UTF-16LE", (text) => Buffer.from(`\ufeff${text}`, "utf16le"), "UTF-16LE"],
  ["UTF-16BE", (text) => Buffer.from(`\ufeff${text}`, "utf16le").swap16(), "UTF-16BE"],
  ["UTF-16LE without a mark", (text) => Buffer.from(text, "utf16le"), "UTF-16LE"],
  ["UTF-16BE without a mark", (text) => Buffer.from(text, "utf16le").swap16(), "UTF-16BE"],
  ["Windows-1252", (text) => Buffer.from(text.replaceAll("\u2019", "\x92"), "latin1"), "Windows-1252"],
];

for (const [name, encode, encoding] of ENCODED) {
  test(`readIemocap() reads transcripts in ${name}, and says so where that is not UTF-8`, async () => {
    const id = "Ses01F_impro01_F000";
    const file = "Session1/dialog/transcriptions/Ses01F_impro01.txt";
    const evaluation = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt";
    const text = `${id} [006.2901-008.2357]: Don\u2019t go to the caf\u00e9.\n`;
    const rated = `[6.2901 - 8.2357]\t${id}\tneu\t[2.5000, 2.5000, 2.5000]\n`;
    await using tree = await release([{ id, code: "neu", text: "" }], {
      [file]: encode(text),
      [evaluation]: encode(rated),
    });
    const { utterances, problems } = await readIemocap(host, tree.root);
    assert.deepEqual(
      utterances.map((u) => [u.text, u.words]),
      [["Don\u2019t go to the caf\u00e9.", "DON'T GO TO THE CAFE"]],
    );
    const told = [file, ...(encoding?.startsWith("UTF") ? [evaluation] : [])].map((id) => {
      return { id, kind: "text not UTF-8" as const, handled: `read as ${encoding}` };
    });
    assert.deepEqual(problems, encoding ? told : []);
  });
}

test("readIemocap() names the characters that it cannot spell", async () => {
  await using tree = await release([
    { id: "Ses01F_impro01_F000", code: "neu", text: "\u0141\u00f3d\u017a, stra\u00dfe, \u00c6r\u00f8." },
    { id: "Ses01F_impro01_F001", code: "neu", text: "Yes \u0434\u0430\u0434 50%" },
  ]);
  const { utterances, problems } = await readIemocap(host, tree.root);
  assert.deepEqual(
    utterances.map((u) => u.words),
    ["LODZ STRASSE AERO", "YES FIFTY"],
  );
  assert.deepEqual(problems, [
    {
      id: "Ses01F_impro01_F001",
      kind: "dropped characters",
      handled: 'kept without "\u0414" 2, "\u0410", "%"',
    },
  ]);
});

test("readIemocap() finds recordings and texts whatever the case of their endings", async () => {
  const id = "Ses01F_impro01_F000";
  await using tree = await release([{ id, code: "neu", text: "Yes." }]);
  const { rename } = await import("node:fs/promises");
  for (const path of [
    `Session1/sentences/wav/Ses01F_impro01/${id}.wav`,
    "Session1/dialog/transcriptions/Ses01F_impro01.txt",
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
  ])
    await rename(
      join(tree.root, path),
      join(
        tree.root,
        path.replace(/[a-z]+$/, (end) => end.toUpperCase()),
      ),
    );
  const { utterances, problems } = await examine(host, await readIemocap(host, tree.root));
  assert.deepEqual(problems, []);
  assert.match(utterances[0].wav, /F000\.WAV$/);
  assert.equal(utterances[0].words, "YES");
});

test("examine() lists a wav whose length is wrong and keeps it", async () => {
  const id = "Ses01F_impro01_F000";
  const wav = `Session1/sentences/wav/Ses01F_impro01/${id}.wav`;
  await using tree = await release([{ id, code: "neu", text: "Yes.", seconds: 1 }]);
  const bytes = await readFile(join(tree.root, wav));
  bytes.writeUInt32LE(2_000_000_000, 40);
  await writeFile(join(tree.root, wav), bytes);
  const { utterances, problems } = await examine(host, await readIemocap(host, tree.root));
  assert.equal(utterances[0].seconds, 1);
  assert.deepEqual(problems, [
    {
      id,
      kind: "wrong wav length",
      handled: "kept: its header leaves the length open: read to the end of the file",
    },
  ]);
});

test("readIemocap() keeps an utterance of tags alone, with no words", async () => {
  await using tree = await release([
    { id: "Ses01F_impro01_F000", code: "hap", text: "[LAUGHTER]" },
    { id: "Ses01F_impro01_F001", code: "hap", text: "[BREATHING] It's 2 [GARBAGE] well-known." },
  ]);
  const corpus = await readIemocap(host, tree.root);
  assert.deepEqual(
    corpus.utterances.map((u) => u.words),
    ["", "IT'S TWO WELL KNOWN"],
  );
  const { problems } = await examine(host, corpus);
  assert.deepEqual(problems, [
    { id: "Ses01F_impro01_F000", kind: "empty transcript", handled: "kept: no words are its words" },
  ]);
});

test("readIemocap() finds IEMOCAP_full_release in the folder, and says what it found instead", async () => {
  await using tree = await release([{ id: "Ses01F_impro01_F000", code: "neu", text: "Yes." }]);
  const outer = await mkdtemp(join(tmpdir(), "iemocap-"));
  try {
    await writeFile(join(outer, "README.txt"), "");
    await assert.rejects(readIemocap(host, outer), /expected Session1 .* found README\.txt$/);
    const { cp } = await import("node:fs/promises");
    await cp(tree.root, join(outer, "IEMOCAP_full_release"), { recursive: true });
    assert.equal((await readIemocap(host, `${outer}/`)).utterances.length, 1);
  } finally {
    await rm(outer, { recursive: true });
  }
  await assert.rejects(readIemocap(host, join(outer, "nowhere")), /found nothing$/);
});

test("examine() names every kind of bad data and keeps what can be used", async () => {
  const say = (n: number, code: string, text: string | undefined, seconds?: number): Turn => {
    return { id: `Ses01F_impro01_F00${n}`, code, text, seconds };
  };
  await using tree = await release(
    [
      say(0, "neu", "All is well."),
      say(1, "neu", "The wav is missing.", 0),
      say(2, "joy", "The label is unknown."),
      say(3, "sad", "[CRYING]"),
      say(4, "ang", "Far too many words for the tenth of a second that is left", 0.4),
      say(5, "neu", "Hm", 0.3),
      say(6, "neu", "A very long turn", 34),
      say(7, "hap", undefined),
      say(8, "hap", "No frame", 0.01),
      say(9, "hap", "Broken"),
      { ...say(0, "neu", ""), id: "Ses01F_impro01_M010" },
    ],
    { "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F009.wav": "RIFF" },
  );
  const corpus = await readIemocap(host, tree.root);
  const { utterances, notForTraining, notForCtc, problems } = await examine(host, corpus);
  const id = (n: number) => `Ses01F_impro01_F00${n}`;
  assert.deepEqual(
    utterances.map((u) => u.id),
    [...[0, 3, 4, 5, 6, 7].map(id), "Ses01F_impro01_M010"],
  );
  assert.deepEqual([...notForTraining], [id(6)]);
  assert.deepEqual([...notForCtc], [id(4)]);
  assert.deepEqual(
    problems.map((p) => [p.id, p.kind]),
    [
      [id(1), "missing wav"],
      [id(2), "unknown label"],
      [id(7), "missing transcript"],
      [id(3), "empty transcript"],
      [id(4), "short clip"],
      [id(4), "transcript too long"],
      [id(5), "short clip"],
      [id(6), "long clip"],
      [id(8), "short clip"],
      [id(9), "unreadable wav"],
      ["Ses01F_impro01_M010", "empty transcript"],
    ],
  );
  assert.match(problems[1].handled, /label "joy"/);
  assert.match(problems[7].handled, /left out of training, kept in the test: 34\.0 s/);
  assert.match(summarizeProblems(problems), /^short clip 3, /);
  assert.equal(utterances.find((u) => u.id === id(6))!.seconds, 34);
});

test("ctcFrames() counts a blank between equal characters", () => {
  assert.equal(ctcFrames("ALL TELL"), 10);
  assert.equal(ctcFrames(""), 0);
});
