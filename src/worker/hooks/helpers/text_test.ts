/** The text helpers against the Rust `tokenizers` package, and what that package does not have. */
import assert from "node:assert/strict";
import { runPython } from "../../../../tests/harness/python.ts";
import { normalizeText, splitWords } from "./bert_words.ts";
import {
  encodePair,
  encodePairBatch,
  encodeSingle,
  encodeTextBatch,
  padBatch,
  seqBucket,
} from "./encoding.ts";
import { makeTensor } from "./tensors.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { wireText, wireTexts } from "./wire_text.ts";

interface Expected {
  readonly ids: number[];
  readonly typeIds: number[];
}

interface Cases {
  readonly vocabulary: string;
  readonly texts: (Expected & { text: string })[];
  readonly words: [text: string, normalized: string, words: string[]][];
  readonly singles: (Expected & { text: string; maxLen: number })[];
  readonly pairs: (Expected & { a: string; b: string; maxLen: number })[];
}

async function casesFromPython(): Promise<Cases> {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const { code, stderr } = await runPython("tests/python/hook_helpers_text.py", [file]);
    assert.equal(code, 0, stderr);
    return JSON.parse(await Deno.readTextFile(file));
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("texts become the ids that the Rust tokenizer gives", async (t) => {
  const cases = await casesFromPython();
  const tokenizer = loadTokenizer(cases.vocabulary);
  await t.step("6,000 random texts", () => {
    assert.ok(cases.texts.length > 6000);
    for (const { text, ids } of cases.texts) {
      const found = encodeSingle(tokenizer, text, ids.length);
      assert.deepEqual([...found.ids], ids, JSON.stringify(text));
      assert.deepEqual(tokenizer.tokenize(text), ids.slice(1, -1));
    }
  });
  await t.step("every settled character by itself", () => {
    assert.ok(cases.words.length > 14_000);
    for (const [text, normalized, words] of cases.words) {
      assert.equal(normalizeText(text), normalized, JSON.stringify(text));
      assert.deepEqual(splitWords(normalized), words, JSON.stringify(text));
    }
  });
  await t.step("cut texts", () => {
    for (const { text, maxLen, ids } of cases.singles) {
      const found = encodeSingle(tokenizer, text, maxLen);
      assert.deepEqual([...found.ids], ids, JSON.stringify([text, maxLen]));
      assert.equal(found.typeIds, undefined);
    }
  });
  await t.step("pairs, cut on both sides", () => {
    assert.ok(cases.pairs.length > 2000);
    for (const { a, b, maxLen, ids, typeIds } of cases.pairs) {
      const found = encodePair(tokenizer, a, b, maxLen);
      assert.deepEqual([...found.ids], ids, JSON.stringify([a, b, maxLen]));
      assert.deepEqual([...found.typeIds!], typeIds, JSON.stringify([a, b, maxLen]));
    }
  });
});

// Ids:       0       1       2       3       4    5      6    7
const SMALL = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##able\r\na\n##b\n";

Deno.test("loadTokenizer() counts lines from 0 and needs its four special tokens", () => {
  const tokenizer = loadTokenizer(SMALL);
  assert.equal(tokenizer.size, 8);
  assert.deepEqual(tokenizer.special, { unk: 1, cls: 2, sep: 3, pad: 0 });
  assert.equal(tokenizer.idOf("##able"), 5);
  assert.equal(tokenizer.idOf("[MASK]"), undefined);
  assert.deepEqual(tokenizer.tokenize("unable a [SEP]un[MASK]"), [4, 5, 6, 3, 4, 1, 1, 1]);
  assert.equal(loadTokenizer(SMALL + "[MASK]").special.mask, 8);
  assert.deepEqual(loadTokenizer(new TextEncoder().encode(SMALL)).tokenize("ab"), [6, 7]);
  assert.deepEqual(loadTokenizer(SMALL, 1).tokenize("a ab"), [6, 1]);
  // Half a surrogate pair is dropped; the package cannot be given one.
  assert.deepEqual(tokenizer.tokenize("a\ud83d b\udc00a"), [6, 1]);
  assert.deepEqual(tokenizer.tokenize("a\ud83db"), [6, 7]);
  // Set apart as Google's BERT does; the Rust package leaves 256 ideographs of extension E out.
  assert.deepEqual(tokenizer.tokenize("a\u{2b820}a"), [6, 1, 6]);
  for (const token of ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]) {
    assert.throws(() => loadTokenizer(SMALL.replace(token, "x")), {
      name: "TypeError",
      message: `the vocabulary has no ${token}`,
    });
  }
});

Deno.test("encodePair() of an empty second text is the first alone", () => {
  const tokenizer = loadTokenizer(SMALL);
  assert.deepEqual(encodePair(tokenizer, "unable", ""), {
    ids: new Int32Array([2, 4, 5, 3]),
    typeIds: new Int32Array(4),
  });
  assert.deepEqual([...encodePair(tokenizer, "a", " ").ids], [2, 6, 3, 3]);
  assert.throws(() => encodePair(tokenizer, "a", "a", 2), /maxLen must be .* at least 3, got 2/);
  assert.throws(() => encodeSingle(tokenizer, "a", 1), /at least 2, got 1/);
});

Deno.test("seqBucket() is the smallest that fits, else the largest", () => {
  assert.equal(seqBucket(0, [32, 8, 16]), 8);
  assert.equal(seqBucket(8, [32, 8, 16]), 8);
  assert.equal(seqBucket(9, [32, 8, 16]), 16);
  assert.equal(seqBucket(33, [32, 8, 16]), 32);
  assert.throws(() => seqBucket(1, []), /there are no sequence buckets/);
  assert.throws(() => seqBucket(1, [8, 0]), /must be positive integers, got 0/);
});

Deno.test("batches are padded with 0, masked with 1 and have type ids only for pairs", () => {
  const tokenizer = loadTokenizer(SMALL);
  assert.deepEqual(encodeTextBatch(tokenizer, ["unable", "a"], [8, 5]), {
    shape: [2, 5],
    ids: new BigInt64Array([2n, 4n, 5n, 3n, 0n, 2n, 6n, 3n, 0n, 0n]),
    mask: new BigInt64Array([1n, 1n, 1n, 1n, 0n, 1n, 1n, 1n, 0n, 0n]),
  });
  assert.deepEqual(encodePairBatch(tokenizer, "a", ["unable", ""], [6]), {
    shape: [2, 6],
    ids: new BigInt64Array([2n, 6n, 3n, 4n, 5n, 3n, 2n, 6n, 3n, 0n, 0n, 0n]),
    mask: new BigInt64Array([1n, 1n, 1n, 1n, 1n, 1n, 1n, 1n, 1n, 0n, 0n, 0n]),
    typeIds: new BigInt64Array([0n, 0n, 0n, 1n, 1n, 1n, 0n, 0n, 0n, 0n, 0n, 0n]),
  });
  // Cut to the largest bucket unless told otherwise, and to what positions there are.
  assert.deepEqual(encodeTextBatch(tokenizer, ["a ".repeat(9)], [4]).shape, [1, 4]);
  assert.deepEqual(encodeTextBatch(tokenizer, ["a ".repeat(900)], [512, 1024]).shape, [1, 512]);
  assert.throws(
    () => encodeTextBatch(tokenizer, ["a a a"], [4], 512),
    /5 tokens do not fit the largest sequence bucket, 4/,
  );
  assert.deepEqual(padBatch([], [4]).shape, [0, 4]);
});

Deno.test("wireText() and wireTexts() read bytes as they came", () => {
  const utf8 = new TextEncoder().encode("aä😀");
  assert.equal(wireText(utf8), "aä😀");
  assert.equal(wireText(makeTensor("t", "UINT8", [1, utf8.length], utf8)), "aä😀");
  assert.equal(wireText(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff])), "\uFEFFa\uFFFD");
  assert.throws(() => wireText(makeTensor("t", "INT8", [1], [1])), /tensor "t" is INT8, not UINT8/);

  const texts = makeTensor("texts", "UINT8", [3, 2], [97, 98, 99, 0, 0, 0]);
  const lens = (values: number[]) => makeTensor("lens", "INT64", [values.length], values);
  assert.deepEqual(wireTexts(texts, lens([2, 1, 0])), ["ab", "c", ""]);
  assert.throws(() => wireTexts(texts, lens([2, 1])), /tensor "lens" has 2 lengths for 3 texts/);
  assert.throws(
    () => wireTexts(texts, lens([2, 3, 0])),
    /"lens": length 3 of row 1 is outside 0..2/,
  );
  assert.throws(() => wireTexts(texts, lens([-1, 0, 0])), /"lens": length -1 of row 0/);
  assert.throws(
    () => wireTexts(makeTensor("t", "UINT8", [1], [1]), lens([1])),
    /"t" must be \[batch, bytes\], got \[1\]/,
  );
});
