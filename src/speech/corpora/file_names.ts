/** Corpora of acted speech whose files say by their names who speaks, what, and with which emotion. */
import type { Label } from "./corpus.ts";

/** What a file's name says. */
export interface NamedClip {
  /** Name of the speaker. */
  readonly speaker: string;
  readonly sex: "F" | "M";
  /** The emotion's name in `labels`, or one that is left out. */
  readonly emotion: string;
  /** What is said. */
  readonly text: string;
  /** What stays together in a split; the speaker where left out. */
  readonly dialogue?: string;
}

/** A corpus that is read from the names of its files. */
export interface FileNames {
  /** The corpus's name. */
  readonly title: string;
  /** Clips of the whole release. */
  readonly release: number;
  /** Groups of speakers, each of which is a fold. */
  readonly groups: number;
  /** The emotions that are one of the four classes. */
  readonly labels: Readonly<Record<string, Label>>;
  /** Undefined where the name is not one of the corpus. */
  parse(stem: string): NamedClip | undefined;
}

/** Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of Emotional Speech and Song", doi 10.5281/zenodo.1188976. */
const ravdess: FileNames = {
  ...{ title: "RAVDESS", release: 1440, groups: 4 },
  labels: { neutral: "neutral", calm: "neutral", happy: "happy", sad: "sad", angry: "angry" },
  parse(stem) {
    // Modality, vocal channel, emotion, intensity, statement, repetition, actor.
    const found = /^03-(0[12])-(0[1-8])-0[12]-(0[12])-0[12]-(0[1-9]|1\d|2[0-4])$/.exec(stem);
    if (found === null) return undefined;
    const [, channel, emotion, statement, actor] = found;
    const names = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"];
    const sex = Number(actor) % 2 === 1 ? "M" : "F";
    return {
      ...{ speaker: `${actor}${sex}`, sex },
      emotion: channel === "02" ? "song" : names[Number(emotion) - 1],
      text: statement === "01" ? "Kids are talking by the door" : "Dogs are sitting by the door",
    };
  },
};

/** Cao et al. 2014, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", doi 10.1109/TAFFC.2014.2336244. */
const CREMAD_SENTENCES: Readonly<Record<string, string>> = {
  IEO: "It's eleven o'clock",
  TIE: "That is exactly what happened",
  IOM: "I'm on my way to the meeting",
  IWW: "I wonder what this is about",
  TAI: "The airplane is almost full",
  MTI: "Maybe tomorrow it will be cold",
  IWL: "I would like a new alarm clock",
  ITH: "I think I have a doctor's appointment",
  DFA: "Don't forget a jacket",
  ITS: "I think I've seen this before",
  TSI: "The surface is slick",
  WSI: "We'll stop in a couple of minutes",
};

const CREMAD_EMOTIONS: Readonly<Record<string, string>> = {
  ...{ ANG: "anger", DIS: "disgust", FEA: "fear", HAP: "happiness", NEU: "neutral", SAD: "sadness" },
};

/** The women of 1001 to 1091, by VideoDemographics.csv. */
const CREMAD_WOMEN = new Set(
  "02 03 04 06 07 08 09 10 12 13 18 20 21 24 25 28 29 30 37 43 46 47 49 52 53 54 55 56 58 60 61 63 72 73 74 75 76 78 79 82 84 89 91"
    .split(" ")
    .map((number) => `10${number}`),
);

const cremad: FileNames = {
  ...{ title: "CREMA-D", release: 7442, groups: 5 },
  labels: { anger: "angry", happiness: "happy", sadness: "sad", neutral: "neutral" },
  parse(stem) {
    // Actor, sentence, emotion as acted, intensity; the release has one 1040_ITH_SAD_X.
    const found = /^(10(?:0[1-9]|[1-8]\d|9[01]))_([A-Z]{3})_([A-Z]{3})_(?:LO|MD|HI|XX?)$/.exec(stem);
    if (found === null) return undefined;
    const [, actor, sentence, emotion] = found;
    if (!Object.hasOwn(CREMAD_SENTENCES, sentence) || !Object.hasOwn(CREMAD_EMOTIONS, emotion))
      return undefined;
    const sex = CREMAD_WOMEN.has(actor) ? "F" : "M";
    return {
      ...{ speaker: `${actor}${sex}`, sex },
      ...{ emotion: CREMAD_EMOTIONS[emotion], text: CREMAD_SENTENCES[sentence] },
    };
  },
};

/** Burkhardt et al. 2005, "A Database of German Emotional Speech", Interspeech. */
const EMODB_SENTENCES: Readonly<Record<string, string>> = {
  a01: "Der Lappen liegt auf dem Eisschrank.",
  a02: "Das will sie am Mittwoch abgeben.",
  a04: "Heute Abend könnte ich es ihm sagen.",
  a05: "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
  a07: "In sieben Stunden wird es soweit sein.",
  b01: "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
  b02: "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
  b03: "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
  b09: "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
  b10: "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
};

/** By the first letters of the German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer. */
const EMODB_EMOTIONS: Readonly<Record<string, string>> = {
  ...{ W: "anger", L: "boredom", E: "disgust", A: "fear", F: "happiness", T: "sadness", N: "neutral" },
};

const EMODB_SEX: Readonly<Record<string, "F" | "M">> = {
  ...{ "03": "M", "08": "F", "09": "F", "10": "M", "11": "M", "12": "M", "13": "F", "14": "F", "15": "M" },
  "16": "F",
};

const emodb: FileNames = {
  ...{ title: "EMO-DB", release: 535, groups: 5 },
  labels: { anger: "angry", happiness: "happy", sadness: "sad", neutral: "neutral" },
  parse(stem) {
    // Speaker, sentence, emotion, version.
    const found = /^(\d\d)([ab]\d\d)([WLEAFTN])[a-z]?$/.exec(stem);
    if (found === null) return undefined;
    const [, speaker, sentence, emotion] = found;
    if (!Object.hasOwn(EMODB_SEX, speaker) || !Object.hasOwn(EMODB_SENTENCES, sentence)) return undefined;
    const sex = EMODB_SEX[speaker];
    return {
      ...{ speaker: `${speaker}${sex}`, sex },
      ...{ emotion: EMODB_EMOTIONS[emotion], text: EMODB_SENTENCES[sentence] },
    };
  },
};

/** Pichora-Fuller & Dupuis 2020, "Toronto emotional speech set (TESS)", doi 10.5683/SP2/E8H2MF. */
const tess: FileNames = {
  ...{ title: "TESS", release: 2800, groups: 2 },
  labels: { angry: "angry", happy: "happy", sad: "sad", neutral: "neutral" },
  parse(stem) {
    // The release has one OA_bite_neutral.
    const found = /^(OAF?|YAF)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)$/i.exec(stem);
    if (found === null) return undefined;
    const [, actress, word, code] = found;
    const speaker = actress.toUpperCase() === "YAF" ? "YAF" : "OAF";
    const emotion = code.toLowerCase();
    return {
      ...{ speaker, sex: "F", text: `Say the word ${word.toLowerCase()}` },
      emotion: emotion === "ps" ? "pleasant surprise" : emotion,
      // With one actress to learn from, dev is made of words.
      dialogue: `${speaker}_${word.toLowerCase()}`,
    };
  },
};

/** The corpora by the names of `--corpus`. */
export const FILE_NAMES = { ravdess, "crema-d": cremad, "emo-db": emodb, tess } as const;
