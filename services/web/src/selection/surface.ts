// Surface style statistics, as xpert.core.surface: version 1, 112 numbers a text.

export const SURFACE_VERSION = 1;

export const FUNCTION_WORDS =
  `the a an of to and in is that it for you your i we our my this be are with as on not have has can will would
should may might must could do does did but or if so just like really very well oh hey sure thing imagine
let's think therefore thus however moreover which whom upon such one their they he she his her its thou thee
thy doth hath 'tis o gonna yeah lol please because when then there all no never`.split(/\s+/);

const SHAPES = [
  "log_words", "words_a_sentence", "sentence_length_spread", "letters_a_word", "long_words", "distinct_words",
  "exclamations", "questions", "commas", "semicolons", "colons", "dashes", "parentheses", "apostrophes", "quotes",
  "ellipses", "emoji", "hashtags", "bold", "line_breaks", "list_items", "digits", "capitalized_words",
  "all_caps_words", "lowercase_start",
]; // prettier-ignore

export const SURFACE_NAMES = [...SHAPES, ...FUNCTION_WORDS.map((word) => `word:${word}`)];

// Python's [^\W\d_]: what str.isalnum() takes, less the digits and the underscore.
const LETTER = "(?:(?![\\p{Nd}_])[\\p{L}\\p{N}])";
const WORD = new RegExp(`${LETTER}+(?:['’]${LETTER}+)*|['’]${LETTER}+`, "gu");
const SENTENCE_END = /[.!?]+/g;
const EMOJI = /[\u{1f000}-\u{1faff}\u{2600}-\u{27bf}]/gu;
const LIST_ITEM = /^[ \t]{0,8}(?:[-*•]|\p{Nd}{1,3}[.)])[ \t]/gmu;
// Python's str.strip() beside JavaScript's: the two differ in a few control characters.
const SPACE = "[\\s\\x1c-\\x1f\\x85]";
const LEADING_SPACE = new RegExp(`^${SPACE}+`, "u");
const ONLY_SPACE = new RegExp(`^${SPACE}*$`, "u");
const INDEX = new Map(FUNCTION_WORDS.map((word, i) => [word, i]));

/** Measures one text; an empty one gives zeros. */
export function surfaceStatistics(text: string): Float32Array {
  const words = text.match(WORD) ?? [];
  const found = new Float32Array(SURFACE_NAMES.length);
  if (words.length === 0 && ONLY_SPACE.test(text)) return found;
  const lower = words.map((word) => word.toLowerCase().replaceAll("’", "'"));
  found.set(shape(text, words, lower));
  const counts = new Float64Array(FUNCTION_WORDS.length);
  for (const word of lower) {
    const i = INDEX.get(word);
    if (i !== undefined) counts[i] = counts[i]! + 1;
  }
  const n = Math.max(words.length, 1);
  counts.forEach((count, i) => (found[SHAPES.length + i] = 3 * Math.sqrt(count / n)));
  return found;
}

function shape(text: string, words: string[], lower: string[]): number[] {
  const nWords = Math.max(words.length, 1);
  const ends = [0, ...[...text.matchAll(SENTENCE_END)].map((m) => m.index + m[0].length), text.length];
  const lengths: number[] = [];
  for (let i = 1; i < ends.length; i++) {
    const n = count(text.slice(ends[i - 1], ends[i]), " ");
    if (n) lengths.push(n);
  }
  const nSentences = Math.max(ends.length - 2, 1);
  const letters = words.map((word) => [...word].length);
  const rate = (n: number) => (10 * n) / nWords;
  return [
    Math.log(nWords),
    nWords / nSentences,
    spread(lengths),
    sum(letters) / nWords,
    letters.filter((n) => n > 8).length / nWords,
    new Set(lower).size / nWords,
    count(text, "!") / nSentences,
    count(text, "?") / nSentences,
    rate(count(text, ",")),
    rate(count(text, ";")),
    rate(count(text, ":")),
    rate(count(text, "—") + count(text, "–") + count(text, " - ")),
    rate(count(text, "(")),
    rate(count(text, "'") + count(text, "’")),
    rate(count(text, '"') + count(text, "“")),
    rate(count(text, "...") + count(text, "…")),
    rate(text.match(EMOJI)?.length ?? 0),
    rate(count(text, "#")),
    rate(count(text, "**")),
    rate(count(text, "\n")),
    rate(text.match(LIST_ITEM)?.length ?? 0),
    rate(text.match(/\p{Nd}/gu)?.length ?? 0),
    words.filter((word) => /^\p{Lu}/u.test(word)).length / nWords,
    words.filter((word) => letterCount(word) > 1 && isUpper(word)).length / nWords,
    /^\p{Ll}/u.test(text.replace(LEADING_SPACE, "")) ? 1 : 0,
  ];
}

const letterCount = (word: string) => [...word].length;

/** As Python's str.isupper: a cased letter, and none of them small or in title case. */
function isUpper(word: string): boolean {
  return /\p{Lu}/u.test(word) && !/[\p{Ll}\p{Lt}]/u.test(word);
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

function spread(values: readonly number[]): number {
  if (values.length === 0) return 0;
  const mean = sum(values) / values.length;
  return Math.sqrt(sum(values.map((v) => (v - mean) ** 2)) / values.length);
}
