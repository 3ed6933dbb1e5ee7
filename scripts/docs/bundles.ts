/** Tables of what a bundle's manifest may say, from what its reader knows. */

import { MANIFEST_KEYS } from "../../src/bundle/manifest.ts";
import { TENSOR_KEYS } from "../../src/bundle/manifest_tensors.ts";
import { DATATYPES } from "../../src/tensor/mod.ts";
import { code, table } from "./markdown.ts";

type Meanings = Readonly<Record<string, readonly [values: string, meaning: string]>>;

const MANIFEST_MEANINGS: Meanings = {
  format_version: ["2.0", "required"],
  name: ["a name", "accepted, without effect: the folder's name is the model's"],
  description: ["a text", "for people; `bundle inspect` shows it"],
  kind: ["model or meta", "programs and weights (default), or code that calls other models"],
  axis_order: [
    "row_major or column_major",
    "letters of shapes and of weights as clients write them, or reversed (default)",
  ],
  meta: ["a mapping", "`calls`: names of the models that a meta model may call"],
  executable_inputs: ["a list of tensors", "what the program takes first, in order"],
  executable_outputs: ["a list of tensors", "what it gives, in order"],
  client_inputs: ["a list of tensors", "what clients send, where a hook stands in between"],
  client_outputs: ["a list of tensors", "what clients receive, likewise"],
  batching: ["a mapping", "`compiled_batch_sizes`: the sizes that there are programs for"],
  input_shapes: ["a list of mappings", "sizes of the variable axes that there are programs for"],
  provenance: ["a mapping", "notes of whoever wrote the bundle"],
};

const TENSOR_MEANINGS: Meanings = {
  name: ["a name", "as clients call it"],
  dtype: ["a word", "see the next table"],
  shape: ["a letter per axis", "`n` or `b` is the batch axis; an empty text is a scalar"],
  dims: ["letters to sizes", "of every other axis; -1: one of `input_shapes`, or any for a client"],
};

/** The keys of a manifest. */
export function manifestKeys(): string {
  return meaningsOf(MANIFEST_KEYS, MANIFEST_MEANINGS);
}

/** The keys of a tensor in it. */
export function tensorKeys(): string {
  return meaningsOf(TENSOR_KEYS, TENSOR_MEANINGS);
}

/** Every element type by its names. */
export function datatypes(): string {
  return table([
    ["In a manifest", "For clients", "Bytes"],
    ...DATATYPES.map(({ token, datatype, byteSize, onWire, pjrtType }) => [
      code(token),
      onWire ? code(datatype) : "not for clients: inside programs alone",
      pjrtType < 0 ? "as each element has; for clients alone" : String(byteSize),
    ]),
  ]);
}

function meaningsOf(keys: readonly string[], meanings: Meanings): string {
  return table([
    ["Key", "Values", "Meaning"],
    ...keys.map((key) => {
      const known = meanings[key];
      if (known === undefined) throw new TypeError(`scripts/docs does not explain the key ${key}`);
      return [code(key), ...known];
    }),
  ]);
}
