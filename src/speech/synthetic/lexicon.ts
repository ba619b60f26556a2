/**
 * Keywords of the synthetic corpus, 60 per text type: 20 adjectives, 20 nouns, 20 verbs in the past tense. Within a
 * part of speech the keywords of all types fit the same templates, so that only the keyword tells the type.
 */
import { type TextType, TYPES } from "./prosody.ts";

export interface Keywords {
  readonly adjective: readonly string[];
  readonly noun: readonly string[];
  readonly verb: readonly string[];
}
export type PartOfSpeech = keyof Keywords;

const words = (text: string) => text.trim().split(/\s+/);

export const LEXICON: Readonly<Record<TextType, Keywords>> = {
  hostile: {
    adjective: words(`furious rotten cruel vicious stupid selfish filthy nasty wicked brutal
      disgusting pathetic greedy ruthless spiteful hateful vile savage shameless worthless`),
    noun: words(`liar traitor cheater bully thief coward enemy insult scandal fight
      threat poison snake monster fraud villain idiot weapon curse crook`),
    verb: words(`betrayed cheated insulted attacked robbed threatened blamed mocked slapped cursed
      accused punished humiliated provoked deceived ruined exploited despised kicked tricked`),
  },
  joy: {
    adjective: words(`wonderful happy lovely delightful amazing brilliant cheerful glorious fantastic joyful
      excited charming splendid radiant thrilling funny perfect magical proud lucky`),
    noun: words(`wedding party birthday prize holiday treasure sunshine picnic dance song
      laughter victory gift festival puppy rainbow celebration parade miracle jackpot`),
    verb: words(`hugged kissed praised cheered welcomed surprised adored amused thanked rescued
      delighted promoted celebrated married tickled blessed admired treasured applauded enjoyed`),
  },
  loss: {
    adjective: words(`lonely broken hopeless tearful gloomy empty grieving miserable helpless mournful
      fragile heartbroken weary sorry hollow bitter forgotten abandoned fading painful`),
    noun: words(`funeral grave hospital tumor coffin widow orphan sorrow goodbye illness
      farewell ashes cemetery accident disease shadow tragedy wound despair drought`),
    verb: words(`buried mourned missed lost grieved pitied outlived forgot surrendered wept
      neglected deserted orphaned regretted lamented sacrificed starved wounded drowned failed`),
  },
  plain: {
    adjective: words(`wooden average regular local square metal modern usual official common
      narrow public digital weekly formal standard medium central double plastic`),
    noun: words(`table office window paper station kitchen number market engine bottle
      printer ladder folder garage ticket carpet pencil magazine bucket counter`),
    verb: words(`called asked noticed followed measured visited copied mailed counted moved
      phoned listed sorted painted parked opened checked printed carried answered`),
  },
};

export const PARTS = ["adjective", "noun", "verb"] as const satisfies readonly PartOfSpeech[];

/** Keywords of every text type. */
export type Pool = Readonly<Record<TextType, Keywords>>;

/** Entries `from` to `to` of every list. */
export function slicePool(from: number, to?: number): Pool {
  const cut = ({ adjective, noun, verb }: Keywords): Keywords => ({
    adjective: adjective.slice(from, to),
    noun: noun.slice(from, to),
    verb: verb.slice(from, to),
  });
  const { hostile, joy, loss, plain } = LEXICON;
  return { hostile: cut(hostile), joy: cut(joy), loss: cut(loss), plain: cut(plain) };
}

/** The type of every keyword, by the keyword in upper case as transcripts have it after normalisation. */
export function typesByKeyword(): Map<string, TextType> {
  return new Map(
    TYPES.flatMap((type) =>
      PARTS.flatMap((part) => LEXICON[type][part].map((word) => [word.toUpperCase(), type] as const)),
    ),
  );
}
