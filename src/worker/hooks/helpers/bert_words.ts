/**
 * How uncased BERT turns text into words, following the Rust `tokenizers` package (BertNormalizer,
 * BertPreTokenizer). Unicode categories are those of the JavaScript engine; that package's are frozen
 * near Unicode 8, so characters assigned later may be classed differently there.
 */

/** Text for which normalizing is lower-casing and nothing else. */
const PLAIN = /^[\x20-\x7e]*$/;

/** Controls, formats, surrogates, private use and what stands for undecodable bytes. */
const DROPPED = /[[\p{Cc}\p{Cf}\p{Cs}\p{Co}\uFFFD]--[\t\n\r]]/gv;

const SPACE = /\p{White_Space}/gu;
const MARK = /\p{Mn}/gu;

/** Ideographs, each a word of its own: the ranges of Google's BERT (its `_is_chinese_char`). */
const IDEOGRAPH =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B820}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

/** A punctuation character, or a run of neither punctuation nor space. */
const WORD = /[!-\/:-@\[-`\{-~\p{P}]|[^!-\/:-@\[-`\{-~\p{P}\p{White_Space}]+/gu;

/** Cleaned, space-separated ideographs, no accents, lower case. */
export function normalizeText(text: string): string {
  if (PLAIN.test(text)) return text.toLowerCase();
  return text
    .replace(DROPPED, "")
    .replace(IDEOGRAPH, " $& ")
    .replace(SPACE, " ")
    .normalize("NFD")
    .replace(MARK, "")
    // Lower-casing a whole string gives a final sigma another form; the models know one form only.
    .replaceAll("Σ", "σ")
    .toLowerCase();
}

/** Words and single punctuation characters of normalized text, in order. */
export function splitWords(normalized: string): string[] {
  return normalized.match(WORD) ?? [];
}
