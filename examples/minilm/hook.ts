/**
 * Hook of the `minilm` bundle: text in, token ids and attention mask for the program out. `build.py`
 * bundles it with the tokenizer library into the one file, `model.ts`, that a bundle may have.
 */
/// <reference path="../../src/worker/hooks/api.d.ts" />
// Not in deno.json: it goes into bundles only, never into the server.
// deno-lint-ignore no-import-prefix
import { Tokenizer } from "npm:@huggingface/tokenizers@0.2.0";

/** Sequence lengths the programs are compiled for, ascending; texts are cut at the last. */
const { sequence_lengths: lengths } = JSON.parse(bundle.readText("settings.json")) as {
  sequence_lengths: number[];
};
const longest = lengths.at(-1)!;
const tokenizer = new Tokenizer(JSON.parse(bundle.readText("tokenizer.json")), {});
const separator = tokenizer.token_to_id("[SEP]")!;
const decoder = new TextDecoder();

/** CJK ideographs beyond U+FFFF, in the ranges BERT's own normalizer sets apart. */
const SUPPLEMENTARY_IDEOGRAPHS =
  /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

/**
 * Settles beforehand what the library does otherwise than the Rust tokenizer that defines the model: it
 * looks for ideographs in UTF-16 units, so it misses the supplementary ones, and it lower-cases a final
 * capital sigma to its final form, where the model was trained on the plain one.
 */
function settle(text: string): string {
  return text.replaceAll("Σ", "σ").replace(SUPPLEMENTARY_IDEOGRAPHS, " $& ");
}

/** Ids of one text, `[CLS]` and `[SEP]` included, cut as the model's own pipeline cuts. */
function encode(text: string): number[] {
  const { ids } = tokenizer.encode(settle(text));
  return ids.length <= longest ? ids : [...ids.slice(0, longest - 1), separator];
}

/** The elements of a BYTES tensor; bytes that are no UTF-8 read as U+FFFD, which the model ignores. */
function* texts({ data }: NamedTensor): Generator<string> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.length;) {
    const end = at + 4 + view.getUint32(at, true);
    yield decoder.decode(data.subarray(at + 4, end));
    at = end;
  }
}

/** `text` BYTES [n] to `input_ids` and `attention_mask` INT32 [n, s], s the shortest length that fits. */
function preprocess(inputs: NamedTensor[]): NamedTensor[] {
  const rows = [...texts(inputs.find(({ name }) => name === "text")!)].map(encode);
  const needed = Math.max(0, ...rows.map((ids) => ids.length));
  const length = lengths.find((candidate) => candidate >= needed)!;
  const ids = new Int32Array(rows.length * length);
  const mask = new Int32Array(rows.length * length);
  rows.forEach((row, index) => {
    ids.set(row, index * length);
    mask.fill(1, index * length, index * length + row.length);
  });
  const shape = [rows.length, length];
  return [
    { name: "input_ids", datatype: "INT32", shape, data: new Uint8Array(ids.buffer) },
    { name: "attention_mask", datatype: "INT32", shape, data: new Uint8Array(mask.buffer) },
  ];
}

register_model(bundle.name, { preprocess });
