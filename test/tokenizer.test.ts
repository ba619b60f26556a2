import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openBertTokenizer } from "../src/io/tokenizer.ts";
import { loadTokenizer as loadNative } from "../src/io/tokenizer_library.ts";
import { loadTokenizer as loadPortable } from "../src/io/tokenizer_library.browser.ts";
import { CtcVocabulary, openCtcVocabulary } from "../src/io/vocabulary.ts";

const host = await currentHost();
const root = mkdtempSync(join(tmpdir(), "tokenizer-test-"));
after(() => rmSync(root, { recursive: true }));

/** A folder with the given files. */
function folder(files: Record<string, unknown>): string {
  const home = mkdtempSync(join(root, "case-"));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(
      join(home, name),
      typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content),
    );
  }
  return home;
}

const WORDS = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "[MASK]",
  "i",
  "un",
  "##aff",
  "##able",
  "'",
  "m",
  "!",
  "cafe",
  "I",
  "é",
];
const vocabText = `${WORDS.join("\n")}\n`;
const vocab = Object.fromEntries(WORDS.map((word, id) => [word, id]));
const special = (id: number) => ({
  id,
  content: WORDS[id],
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/** What transformers writes for a BertTokenizerFast. */
const TOKENIZER_JSON = {
  version: "1.0",
  truncation: { direction: "Right", max_length: 4, strategy: "LongestFirst", stride: 0 },
  padding: {
    strategy: { Fixed: 9 },
    direction: "Right",
    pad_to_multiple_of: null,
    pad_id: 0,
    pad_type_id: 0,
    pad_token: "[PAD]",
  },
  added_tokens: [0, 1, 2, 3, 4].map(special),
  normalizer: {
    type: "BertNormalizer",
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: { type: "BertProcessing", sep: ["[SEP]", 3], cls: ["[CLS]", 2] },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab,
  },
};

for (const [name, files] of [
  ["tokenizer.json", { "tokenizer.json": TOKENIZER_JSON }],
  ["vocab.txt", { "vocab.txt": vocabText }],
  ["vocab.txt with CR", { "vocab.txt": vocabText.replaceAll("\n", "\r\n") }],
] as const) {
  test(`openBertTokenizer() reads ${name} and encodes as BERT does`, async () => {
    const bert = await openBertTokenizer(host, folder(files));
    assert.deepEqual(await bert.encode("I'm UNAFFABLE, Café!"), {
      ids: [2, 5, 9, 10, 6, 7, 8, 1, 12, 11, 3],
      tokens: ["[CLS]", "i", "'", "m", "un", "##aff", "##able", "[UNK]", "cafe", "!", "[SEP]"],
    });
    assert.deepEqual((await bert.encode("")).ids, [2, 3]);
    assert.deepEqual((await bert.encode("i [MASK] i")).ids, [2, 5, 4, 5, 3]);
    assert.equal((await bert.encode("i ".repeat(600))).ids.length, 512);
    assert.deepEqual([bert.vocabularySize, bert.maxLength, bert.padId], [15, 512, 0]);
  });
}

test("openBertTokenizer() knows a vocab.txt that ends within a line, and takes no mark or name amiss", async () => {
  assert.equal((await openBertTokenizer(host, folder({ "vocab.txt": vocabText }))).endsAbruptly, false);
  const odd = `\ufeff${vocabText}__proto__\nconstr`;
  const bert = await openBertTokenizer(host, folder({ "vocab.txt": odd }));
  assert.deepEqual([bert.vocabularySize, bert.padId, bert.endsAbruptly], [17, 0, true]);
  assert.match(bert.path, /vocab\.txt$/);
});

test("openBertTokenizer() obeys tokenizer_config.json and config.json", async () => {
  const bert = await openBertTokenizer(
    host,
    folder({
      "vocab.txt": vocabText,
      "tokenizer_config.json": {
        do_lower_case: false,
        model_max_length: 1e30,
        cls_token: { content: "[CLS]" },
      },
      "config.json": { max_position_embeddings: 5 },
    }),
  );
  assert.deepEqual((await bert.encode("I é")).tokens, ["[CLS]", "I", "é", "[SEP]"]);
  const long = await bert.encode("I I I I I I");
  assert.deepEqual(long.tokens, ["[CLS]", "I", "I", "I", "[SEP]"]);
});

/** What a checkout has before `git lfs pull`. */
const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 231508\n`;

test("openBertTokenizer() says in one line what is missing or damaged", async () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{}, /^Cannot open \S+: it holds neither tokenizer\.json nor vocab\.txt, which BERT needs$/],
    [{ "tokenizer.json": "{" }, /^Cannot read \S+tokenizer\.json: .+$/],
    [{ "vocab.txt": "a\nb\na\n" }, /^Cannot read \S+vocab\.txt: "a" stands on lines 1 and 3$/],
    [{ "vocab.txt": "[UNK]\n[CLS]\n" }, /^Cannot read \S+vocab\.txt: it lacks \[SEP\]$/],
    [{ "vocab.txt": POINTER }, /^Cannot read \S+vocab\.txt: it is a Git LFS pointer: run git lfs pull$/],
    [
      { "tokenizer.json": POINTER },
      /^Cannot read \S+tokenizer\.json: it is a Git LFS pointer: run git lfs pull$/,
    ],
    [
      { "vocab.txt": vocabText, "config.json": POINTER },
      /^Cannot read \S+config\.json: it is a Git LFS pointer: run git lfs pull$/,
    ],
    [
      { "vocab.txt": Buffer.from(vocabText.replace("cafe", "caf\xe9"), "latin1") },
      /^Cannot read \S+vocab\.txt: it is not UTF-8 \(perhaps Windows-1252\)$/,
    ],
    [
      { "vocab.txt": vocabText, "config.json": "[]" },
      /^Cannot use \S+config\.json: it is \[\] but should be an object$/,
    ],
  ];
  for (const [files, message] of cases) {
    await assert.rejects(openBertTokenizer(host, folder(files)), (error: Error) =>
      message.test(error.message),
    );
  }
});

const LETTERS = "<pad> <s> </s> <unk> | E T A O N I H S R D L U M W C F G Y P B V K ' X J Q Z".split(" ");
const CTC = Object.fromEntries(LETTERS.map((token, id) => [token, id]));

test("openCtcVocabulary() reads the vocabulary of wav2vec2 and HuBERT", async () => {
  const ctc = await openCtcVocabulary(host, folder({ "vocab.json": CTC }));
  assert.deepEqual([ctc.size, ctc.blank, ctc.delimiter], [32, 0, 4]);
  assert.deepEqual(ctc.encode("DON'T GO"), [14, 8, 9, 27, 6, 4, 21, 8]);
  assert.deepEqual(ctc.encode("Go 7"), [21, 8, 4, 3]);
  assert.equal(ctc.decode(ctc.encode("DON'T GO")), "DON'T GO");
  assert.equal(ctc.decode([4, 4, 1, 7, 4, 0, 4, 3, 7, 2, 4]), "A A");
});

test("openCtcVocabulary() takes the special tokens from tokenizer_config.json", async () => {
  const ctc = await openCtcVocabulary(
    host,
    folder({
      "vocab.json": { a: 0, _: 1, "#": 2, "?": 3 },
      "tokenizer_config.json": { pad_token: "_", word_delimiter_token: "#", unk_token: { content: "?" } },
    }),
  );
  assert.deepEqual([ctc.blank, ctc.delimiter], [1, 2]);
  assert.deepEqual(ctc.encode("A bA"), [0, 2, 3, 0]);
  assert.equal(ctc.decode([0, 2, 3, 0]), "a a");
});

test("openCtcVocabulary() reads tokens that were added, and names from either file or by custom", async () => {
  const own = { a: 0, "|": 1, "[UNK]": 2, "[PAD]": 3 };
  const added = { "<s>": 4, "</s>": 5 };
  const decoder = { 3: { content: "[PAD]" }, 4: { content: "<s>", special: true }, 5: { content: "</s>" } };
  const names = { pad_token: "[PAD]", unk_token: "[UNK]" };
  const forms: Record<string, unknown>[] = [
    { "added_tokens.json": added, "tokenizer_config.json": names },
    { "added_tokens.json": added, "special_tokens_map.json": names },
    { "tokenizer_config.json": { ...names, added_tokens_decoder: decoder } },
    { "added_tokens.json": added },
    {
      "added_tokens.json": added,
      "tokenizer_config.json": { tokenizer_class: "BertTokenizer", pad_token: "no" },
    },
  ];
  for (const form of forms) {
    const ctc = await openCtcVocabulary(host, folder({ "vocab.json": own, ...form }));
    assert.deepEqual([ctc.size, ctc.blank, ctc.tokens[5]], [6, 3, "</s>"]);
    assert.equal(ctc.decode([0, 4, 2, 1, 0, 5]), "a a");
  }
  const small = { tokenizer_class: "Wav2Vec2CTCTokenizer", do_lower_case: true };
  for (const [config, text] of [
    [small, "go"],
    [{ do_lower_case: true }, "GO"], // BERT's, in a model folder of old
  ] as const) {
    const ctc = await openCtcVocabulary(host, folder({ "vocab.json": CTC, "tokenizer_config.json": config }));
    assert.equal(ctc.decode(ctc.encode("GO")), text);
  }
  const clash = folder({ "vocab.json": own, "added_tokens.json": { a: 7 } });
  await assert.rejects(openCtcVocabulary(host, clash), /token "a" has id 0, among the added tokens 7$/);
});

test("CtcVocabulary takes more tokens than a call takes arguments", () => {
  const own = Object.fromEntries(
    Array.from({ length: 200_000 }, (_, id) => [id === 0 ? "<pad>" : `t${id}`, id]),
  );
  const vocabulary = new CtcVocabulary(own, {}, { added: { "<s>": 200_000 } });
  assert.deepEqual([vocabulary.size, vocabulary.minOutputs], [200_001, 200_000]);
});

test("openCtcVocabulary() says in one line what is missing or damaged", async () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{}, /^Cannot open \S+: it holds no vocab\.json, which the CTC decoder needs$/],
    [
      { "vocab.json": "{]" },
      /^Cannot read \S+: not JSON, line 1, column 2: expected a key in quotes but found '\]'$/,
    ],
    [
      { "vocab.json": CTC, "tokenizer_config.json": { pad_token: 0 } },
      /^Cannot use \S+tokenizer_config\.json: pad_token is 0 but should be a token$/,
    ],
    [
      { "vocab.json": CTC, "special_tokens_map.json": { unk_token: { text: "?" } } },
      /^Cannot use \S+special_tokens_map\.json: unk_token is \{"text":"\?"\} but should be a token$/,
    ],
    [
      { "vocab.json": CTC, "tokenizer_config.json": { added_tokens_decoder: { 32: {} } } },
      /: added_tokens_decoder\.32 is \{\} but should be a token$/,
    ],
    [{ "vocab.json": { a: "0" } }, /^Cannot read \S+: token "a" has no number as id$/],
    [{ "vocab.json": { a: 0, b: 5 } }, /^Cannot read \S+: token "b" has id 5, expected 0 to 1$/],
    [{ "vocab.json": { a: 0, b: 0 } }, /^Cannot read \S+: tokens "a" and "b" share the id 0$/],
    [{ "vocab.json": { a: 0, b: 1 } }, /^Cannot read \S+: the blank "<pad>" is missing$/],
    [{ "vocab.json": { "<pad>": 0, "<unk>": 1 } }, /^Cannot read \S+: it holds no token that is text$/],
  ];
  for (const [files, message] of cases) {
    await assert.rejects(openCtcVocabulary(host, folder(files)), (error: Error) =>
      message.test(error.message),
    );
  }
});

test("CtcVocabulary.encode() refuses what it cannot write", () => {
  const bare = new CtcVocabulary({ "<pad>": 0, A: 1 });
  assert.throws(() => bare.encode("A?"), {
    message: 'Cannot encode "?": the vocabulary has neither it nor <unk>',
  });
  assert.throws(() => bare.encode("A A"), RangeError);
});

test("both tokenizer libraries encode 2,000 texts alike", async () => {
  const words = readFileSync("weights/default/vocab.txt", "utf8").trim().split("\n");
  const characters = [
    ..."aezIOÉéñßçåÅﬁ½①٣漢字ひカ한я́̈ς İıſ!?.,;:'’\"-–—_()[]{}#@&%$€+=<>/\\|~^`\t\n\r\u00a0\u200b\u200d\ufeff\u00ad\0\ufffd👍👩‍👩‍👧",
  ];
  let state = 7;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const piece = () =>
    next(3) === 0 ? characters[next(characters.length)] : words[next(words.length)].replace("##", "");
  const texts = Array.from({ length: 1000 }, () =>
    Array.from({ length: next(24) }, piece).join(next(2) === 0 ? " " : ""),
  );
  for (const lowercase of [true, false]) {
    const json = {
      ...TOKENIZER_JSON,
      ...{ truncation: null, padding: null },
      added_tokens: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map((content) => ({
        ...special(0),
        ...{ id: words.indexOf(content), content },
      })),
      normalizer: {
        type: "BertNormalizer",
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase,
      },
      post_processor: {
        type: "BertProcessing",
        sep: ["[SEP]", words.indexOf("[SEP]")],
        cls: ["[CLS]", words.indexOf("[CLS]")],
      },
      model: {
        ...{
          type: "WordPiece",
          unk_token: "[UNK]",
          continuing_subword_prefix: "##",
          max_input_chars_per_word: 100,
        },
        vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      },
    };
    const [native, portable] = [
      await loadNative(JSON.stringify(json)),
      await loadPortable(JSON.stringify(json)),
    ];
    assert.equal(portable.vocabularySize, native.vocabularySize);
    assert.equal(portable.idOf("[PAD]"), native.idOf("[PAD]"));
    assert.equal(portable.idOf("nowhere"), undefined);
    for (const text of [...texts, "", " ", "[SEP] [MASK]x[CLS]", "x".repeat(101)])
      assert.deepEqual(await portable.encode(text, 16), await native.encode(text, 16), JSON.stringify(text));
  }
  await assert.rejects(loadPortable("{}"), Error);
});
