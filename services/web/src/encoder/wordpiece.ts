// BERT's word pieces, lower case: text to token ids.

const MAX_LETTERS = 100;
const UNKNOWN = "[UNK]";

export class WordPieces {
  readonly #ids: ReadonlyMap<string, number>;

  /** `vocabulary` is the model's vocab.txt: a piece a line, its id is the line's number. */
  constructor(vocabulary: string) {
    this.#ids = new Map(vocabulary.split("\n").map((piece, i) => [piece.replace(/\r$/, ""), i]));
  }

  /** Ids with [CLS] and [SEP], at most `maxLength`. */
  encode(text: string, maxLength: number): number[] {
    const ids: number[] = [];
    for (const word of words(text)) {
      if (ids.length >= maxLength - 2) break;
      ids.push(...this.#pieces(word));
    }
    return [this.#id("[CLS]"), ...ids.slice(0, maxLength - 2), this.#id("[SEP]")];
  }

  #id(piece: string): number {
    const id = this.#ids.get(piece);
    if (id === undefined) throw new Error(`The vocabulary lacks '${piece}': the file is broken.`);
    return id;
  }

  #pieces(word: string): number[] {
    const letters = [...word];
    if (letters.length > MAX_LETTERS) return [this.#id(UNKNOWN)];
    const found: number[] = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        id = this.#ids.get((start ? "##" : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.#id(UNKNOWN)];
      found.push(id);
      start = end;
    }
    return found;
  }
}

const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/u;
const CHINESE =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/u;

/** Cleans, lowers, strips accents, and splits at white space and punctuation. */
function words(text: string): string[] {
  const clean = [...text].map((c) => (/[\t\n\r]/.test(c) ? " " : c === "\ufffd" || /\p{C}/u.test(c) ? "" : CHINESE.test(c) ? ` ${c} ` : c));
  const plain = clean.join("").normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
  return [...plain]
    .map((c) => (PUNCTUATION.test(c) ? ` ${c} ` : c))
    .join("")
    .split(/\s+/u)
    .filter(Boolean);
}
