/** WordPiece over a BERT vocabulary. */

import { normalizeText, splitWords } from "./bert_words.ts";

/** Ids of the special tokens; `mask` only where the vocabulary has one. */
export interface SpecialTokenIds {
  readonly unk: number;
  readonly cls: number;
  readonly sep: number;
  readonly pad: number;
  readonly mask?: number;
}

/** A loaded vocabulary. Immutable: one serves any number of calls. */
export interface Tokenizer {
  /** Number of lines of the vocabulary. */
  readonly size: number;
  readonly special: SpecialTokenIds;
  /** Id of a token as spelled in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Ids of a text, nothing added and nothing cut. */
  tokenize(text: string): number[];
}

/**
 * Reads a vocabulary: one token per line, ids counted from 0. A token that appears twice has its last id.
 * @param vocabulary the file's contents, for example `bundle.readText("vocab.txt")`
 * @param maxInputCharsPerWord longer words, in code points, are unknown
 * @throws {TypeError} when `[UNK]`, `[CLS]`, `[SEP]` or `[PAD]` is missing
 */
export function loadTokenizer(
  vocabulary: string | Uint8Array,
  maxInputCharsPerWord = 100,
): Tokenizer {
  const text = typeof vocabulary === "string" ? vocabulary : new TextDecoder().decode(vocabulary);
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return new WordPiece(lines.map((line) => line.trimEnd()), maxInputCharsPerWord);
}

class WordPiece implements Tokenizer {
  readonly size: number;
  readonly special: SpecialTokenIds;
  readonly #ids = new Map<string, number>();
  /** Tokens that continue a word, without their `##`. */
  readonly #continuations = new Map<string, number>();
  /** No token is longer, in UTF-16 units: longer pieces need not be looked up. */
  readonly #longest: number;
  readonly #maxWordLength: number;
  readonly #literals: RegExp;

  constructor(tokens: readonly string[], maxWordLength: number) {
    let longest = 0;
    for (const [id, token] of tokens.entries()) {
      this.#ids.set(token, id);
      if (token.startsWith("##")) this.#continuations.set(token.slice(2), id);
      longest = Math.max(longest, token.length);
    }
    this.size = tokens.length;
    this.#longest = longest;
    this.#maxWordLength = maxWordLength;
    const mask = this.#ids.get("[MASK]");
    this.special = Object.freeze({
      unk: this.#required("[UNK]"),
      cls: this.#required("[CLS]"),
      sep: this.#required("[SEP]"),
      pad: this.#required("[PAD]"),
      ...(mask === undefined ? {} : { mask }),
    });
    this.#literals = mask === undefined
      ? /(\[(?:UNK|CLS|SEP|PAD)\])/
      : /(\[(?:UNK|CLS|SEP|PAD|MASK)\])/;
    Object.freeze(this);
  }

  idOf(token: string): number | undefined {
    return this.#ids.get(token);
  }

  tokenize(text: string): number[] {
    const ids: number[] = [];
    // Splitting by a captured group: literals are the odd members.
    for (const [at, segment] of text.split(this.#literals).entries()) {
      if (at % 2 === 1) ids.push(this.#ids.get(segment)!);
      else for (const word of splitWords(normalizeText(segment))) this.#pushPieces(ids, word);
    }
    return ids;
  }

  /** Appends the longest matching pieces from left to right, or one `[UNK]` for the whole word. */
  #pushPieces(ids: number[], word: string): void {
    const before = ids.length;
    // Code points are fewer than UTF-16 units, so most words need no count.
    const fits = word.length <= this.#maxWordLength || [...word].length <= this.#maxWordLength;
    let start = fits ? 0 : word.length;
    let found = fits;
    while (found && start < word.length) {
      const pieces = start === 0 ? this.#ids : this.#continuations;
      found = false;
      // Half a surrogate pair at either end is in no vocabulary: units do for code points.
      for (let end = Math.min(word.length, start + this.#longest); end > start; end--) {
        const id = pieces.get(word.slice(start, end));
        if (id === undefined) continue;
        ids.push(id);
        start = end;
        found = true;
        break;
      }
    }
    if (!found) {
      ids.length = before;
      ids.push(this.special.unk);
    }
  }

  #required(token: string): number {
    const id = this.#ids.get(token);
    if (id === undefined) throw new TypeError(`the vocabulary has no ${token}`);
    return id;
  }
}
