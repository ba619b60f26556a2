/**
 * Sentences for pretraining: everyday English of some 570 words, among them none of the keywords that tell an emotion in the
 * other corpora, so that these remain words that a pretrained encoder has not heard.
 */
import type { Random } from "../corpora/random.ts";

const words = (text: string) => text.trim().split(/\s+/);

export const WIDE_LEXICON = {
  person:
    words(`teacher doctor neighbor farmer sailor painter driver student nurse lawyer baker butcher tailor
    captain soldier singer writer actor judge pilot clerk guard waiter plumber builder dentist gardener manager
    brother sister uncle cousin grandfather aunt husband daughter nephew boy girl woman child stranger customer
    passenger tourist king queen prince merchant shepherd hunter fisherman engineer scientist professor mayor`),
  name: words(`alice peter george mary thomas susan robert linda charles julia edward helen walter ruth oliver
    martha victor clara hugo nina oscar paula simon vera frank laura henry diana martin rosa`),
  thing: words(`book lamp chair hammer bicycle basket blanket candle mirror clock camera guitar violin drum
    suitcase umbrella jacket button shoe glove hat coat shirt belt ring necklace key lock hinge wheel rope
    chain nail screw brush broom bowl cup plate fork spoon knife kettle pan oven stove cheese bread butter
    apple orange lemon cherry onion carrot potato cabbage pepper sugar salt flour honey soup cake cookie
    letter envelope stamp map flag coin wallet box barrel jar tray pillow curtain shelf drawer desk bench
    tree branch leaf root seed flower grass bush stone rock sand clay brick pipe wire cable switch battery
    radio phone computer screen keyboard robot rocket satellite telescope microscope thermometer`),
  animal: words(`dog cat horse cow sheep goat pig chicken duck goose rabbit mouse squirrel fox wolf bear deer
    moose eagle owl crow sparrow parrot swan turtle frog lizard spider beetle butterfly bee ant whale shark
    salmon trout dolphin elephant tiger lion zebra giraffe camel monkey donkey`),
  place: words(`village city harbor beach forest desert island valley mountain river lake ocean bridge tunnel
    castle palace church school library museum theater factory farm barn stable cabin cottage garden park
    plaza street avenue bazaar bakery bank airport railway platform cellar attic balcony corridor ceiling
    meadow swamp canyon cliff glacier volcano waterfall field orchard vineyard lighthouse windmill`),
  adjective: words(`big small tall short long wide deep shallow heavy light thick thin round flat sharp smooth
    rough soft hard wet dry warm cool hot cold fresh ripe raw sweet sour salty yellow purple green blue brown
    gray white black silver golden early late quick slow young ancient recent vacant crowded distant nearby
    strange simple complex cheap expensive clean dirty loud quiet bright dim hidden curved straight`),
  did: words(`found sold bought built repaired cleaned washed hauled dropped lifted pushed pulled threw caught
    broke bent folded wrapped tied cut planted picked cooked baked fried boiled mixed poured drank ate tasted
    drew wrote read sang played taught learned chose borrowed returned hid showed sent brought kept held
    weighed filled covered shook rolled cracked polished examined described discovered invented`),
  does: words(`finds sells buys builds repairs cleans washes brings drops lifts pushes pulls throws catches
    breaks bends folds wraps ties cuts plants picks cooks bakes mixes pours draws writes reads sings teaches
    learns chooses borrows returns hides shows sends keeps holds weighs fills covers shakes`),
  went: words(`walked ran jumped swam flew drove rode climbed crawled marched traveled hurried wandered sailed
    slept stood sat waited worked rested arrived stayed lived stopped turned fell`),
  adverb: words(`quickly slowly quietly loudly carefully easily suddenly gently often seldom always never
    sometimes usually yesterday tomorrow tonight soon later twice everywhere nowhere together alone again`),
  number: words(`two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety`),
  unit: words(
    `minutes hours days weeks months years miles dollars pounds gallons inches feet yards pages steps`,
  ),
  before: words(
    `under over behind beside near inside outside across around above below beyond toward through`,
  ),
} as const satisfies Readonly<Record<string, readonly string[]>>;

const CLAUSES: readonly string[] = [
  "the {adjective} {person} {did} a {thing} {before} the {place}",
  "{name} {did} the {thing} and the {thing}",
  "{name} {went} {adverb} {before} the {place}",
  "my {person} {does} {number} {adjective} {animal} tracks",
  "a {animal} {went} {before} the {adjective} {place}",
  "the {animal} and the {animal} {went} {adverb}",
  "we {did} {number} {adjective} things {before} the {place}",
  "they {went} for {number} {unit}",
  "it took {number} {unit} to reach the {place}",
  "she {adverb} {does} her {thing} {before} the {thing}",
  "is there a {thing} {before} your {thing}",
  "where is the {adjective} {thing} that {name} {did}",
  "please put the {thing} {before} the {adjective} {thing}",
  "{name} and {name} {did} a {adjective} {thing}",
  "the {place} is {adjective} and the {place} is {adjective}",
  "{number} {unit} later the {person} {went} home",
  "who {did} my {adjective} {thing} {adverb}",
  "no {person} {does} a {thing} without a {thing}",
  "i have never seen such a {adjective} {animal}",
  "could you bring {number} of those to the {place}",
  "this {thing} costs {number} {unit} more than that {thing}",
  "when the {person} {went} away the {animal} {went} too",
  "our {person} {adverb} {did} what {name} {did}",
  "{number} and {number} do not make {number}",
];

/** One clause or two, 4 to 24 words, in lower case. */
export function wideSentence(random: Random): string {
  const clause = () =>
    random
      .pick(CLAUSES)
      .replace(/\{(\w+)\}/g, (_, kind: keyof typeof WIDE_LEXICON) => random.pick<string>(WIDE_LEXICON[kind]));
  return random.uniform() < 0.65
    ? clause()
    : `${clause()} ${random.pick(["and", "but", "because", "so"])} ${clause()}`;
}
