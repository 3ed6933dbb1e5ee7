/** Shape variants: which sizes of the variable input axes a bundle has programs for. */
import { InvalidArgumentError } from "../errors.ts";
import { formatShape } from "../tensor/mod.ts";
import { MAX_EXTENT, MAX_VARIANTS } from "./limits.ts";
import {
  describe,
  type ManifestReader,
  quote,
  type YamlMapping,
  type YamlValue,
} from "./manifest_reader.ts";
import type { ManifestTensor } from "./manifest_tensors.ts";

/** One entry of `input_shapes`; a bundle without that key has one variant with no sizes. */
export interface ShapeVariant {
  /** 0-based position in `input_shapes`: the `{i}` of `model.v{i}.mlir`. */
  readonly index: number;
  /** Extent of each variable axis, by letter. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Extents of the variable axes, executable inputs in order, axes in wire order. */
  readonly key: readonly number[];
}

/**
 * Reads `input_shapes` against the executable inputs of a regular model.
 * @throws {ManifestError}
 */
export function readInputShapes(
  reader: ManifestReader,
  manifest: YamlMapping,
  inputs: readonly ManifestTensor[],
): ShapeVariant[] {
  const variable = [
    ...new Set(inputs.flatMap((input) => input.variableAxes.map(({ letter }) => letter))),
  ];
  if (!manifest.has("input_shapes")) {
    if (variable.length === 0) return [{ index: 0, sizes: new Map(), key: [] }];
    throw reader.keyError(
      "input_shapes",
      `is required: the executable inputs have variable axes (${variable.join(", ")})`,
    );
  }
  const entries = reader.list(manifest.get("input_shapes"), "input_shapes", MAX_VARIANTS);
  if (variable.length === 0) {
    throw reader.keyError("input_shapes", "is given, but no executable input has a variable axis");
  }
  if (entries.length === 0) throw reader.keyError("input_shapes", "must not be empty");
  const variants: ShapeVariant[] = [];
  const seen = new Map<string, number>();
  entries.forEach((entry, index) => {
    const sizes = readSizes(reader, entry, `input_shapes[${index}]`, variable);
    const key = inputs.flatMap((input) =>
      input.variableAxes.map(({ letter }) => sizes.get(letter)!)
    );
    const twin = seen.get(key.join());
    if (twin !== undefined) {
      throw reader.keyError(`input_shapes[${index}]`, `repeats input_shapes[${twin}]`);
    }
    seen.set(key.join(), index);
    variants.push({ index, sizes, key });
  });
  return variants;
}

function readSizes(
  reader: ManifestReader,
  value: YamlValue,
  path: string,
  variable: readonly string[],
): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const [letter, size] of reader.mapping(value, path)) {
    if (typeof letter !== "string" || !/^[A-Za-z]$/.test(letter)) {
      throw reader.keyError(path, `must have single letters as keys, got ${describe(letter)}`);
    }
    if (!variable.includes(letter)) {
      throw reader.keyError(
        path,
        `gives a size for ${quote(letter)}, which is not a variable axis (${variable.join(", ")})`,
      );
    }
    const range = { minimum: 1, maximum: MAX_EXTENT };
    sizes.set(letter, reader.integer(size, `${path}.${letter}`, range));
  }
  for (const letter of variable) {
    if (!sizes.has(letter)) {
      throw reader.keyError(path, `gives no size for the variable axis "${letter}"`);
    }
  }
  return sizes;
}

/** The shape a variant gives a tensor: variable axes fixed, the batch axis still -1. */
export function resolveShape(tensor: ManifestTensor, variant: ShapeVariant): number[] {
  const shape = [...tensor.shape];
  for (const { letter, axis } of tensor.variableAxes) shape[axis] = variant.sizes.get(letter) ?? -1;
  return shape;
}

/**
 * The variant that prepared inputs belong to, by the extents of their variable axes.
 * @param shapes wire shapes of all executable inputs, in manifest order, already of the right rank
 * @throws {InvalidArgumentError} listing the compiled sizes when there is none
 */
export function selectVariant(
  inputs: readonly ManifestTensor[],
  variants: readonly ShapeVariant[],
  shapes: readonly (readonly number[])[],
): ShapeVariant {
  const found = variants.find(({ key }) => {
    let at = 0;
    return inputs.every((input, index) =>
      input.variableAxes.every(({ axis }) => shapes[index]![axis] === key[at++])
    );
  });
  if (found !== undefined) return found;
  const asked = inputs.flatMap((input, index) =>
    input.variableAxes.length === 0 ? [] : [`${input.name} ${formatShape(shapes[index]!)}`]
  );
  throw new InvalidArgumentError(
    `no program is compiled for ${asked.join(", ")}; compiled sizes: ${
      variants.map(formatVariant).join("; ")
    }`,
  );
}

/** `s=128, t=64`; empty for the variant of a bundle without `input_shapes`. */
export function formatVariant(variant: ShapeVariant): string {
  return [...variant.sizes].map(([letter, size]) => `${letter}=${size}`).join(", ");
}
