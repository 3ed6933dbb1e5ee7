/** `manifest.yaml`, format 2.0: what a bundle declares, checked in full, in wire order. */
import { readInputShapes, type ShapeVariant } from "./input_shapes.ts";
import { MAX_BATCH_SIZES, MAX_CALLS, MAX_EXTENT, MAX_NAME_LENGTH } from "./limits.ts";
import {
  describe,
  ManifestReader,
  quote,
  type YamlMapping,
  type YamlValue,
} from "./manifest_reader.ts";
import { type AxisOrder, type ManifestTensor, readTensorList } from "./manifest_tensors.ts";
import { nearest } from "../nearest.ts";

/** A parsed manifest. All shapes and axes are in wire order. */
export interface Manifest {
  /** `model`: programs and weights; `meta`: a hook file that calls other models. */
  readonly kind: "model" | "meta";
  readonly description: string;
  readonly axisOrder: AxisOrder;
  /** Leading program parameters, in order. Empty for a meta that declares none. */
  readonly executableInputs: readonly ManifestTensor[];
  /** Program results, in order. */
  readonly executableOutputs: readonly ManifestTensor[];
  /** What clients send: `client_inputs`, or the executable inputs where that is not given. */
  readonly clientInputs: readonly ManifestTensor[];
  /** What clients receive, likewise. */
  readonly clientOutputs: readonly ManifestTensor[];
  /** Declared batch sizes, ascending, each once. */
  readonly compiledBatchSizes: readonly number[];
  /** One entry at least for a model; none for a meta. */
  readonly variants: readonly ShapeVariant[];
  /** Models a meta may call. */
  readonly calls: readonly string[];
  /** Free-form notes of whoever wrote the bundle. */
  readonly provenance: ReadonlyMap<unknown, unknown>;
  /** What is odd but harmless, for the log. */
  readonly warnings: readonly string[];
}

/** The keys of a manifest's top level. */
export const MANIFEST_KEYS = [
  "format_version",
  "name",
  "description",
  "kind",
  "axis_order",
  "meta",
  "executable_inputs",
  "executable_outputs",
  "client_inputs",
  "client_outputs",
  "batching",
  "input_shapes",
  "provenance",
];

/**
 * Parses and checks a manifest.
 * @param bundle the model name: the name of the bundle's directory
 * @param hasHook whether the bundle has a hook file; client sections and metas need one
 * @throws {ManifestError} naming the key path
 */
export function parseManifest(bundle: string, text: string, hasHook: boolean): Manifest {
  const reader = new ManifestReader(bundle);
  const root = reader.parse(text);
  checkFormatVersion(reader, root);
  checkKnownKeys(reader, root);
  const kind = readChoice(reader, root, "kind", ["model", "meta"] as const);
  const axisOrder = readChoice(reader, root, "axis_order", ["column_major", "row_major"] as const);
  if (!hasHook) checkNeedsNoHook(reader, root, kind);
  const description = readDescription(reader, root);
  const section = (path: string, role: "executable" | "client" | "both") =>
    root.has(path) ? readTensorList(reader, root.get(path), { path, axisOrder, role }) : undefined;

  const clientInputs = section("client_inputs", "client");
  const clientOutputs = section("client_outputs", "client");
  const executableInputs = section("executable_inputs", clientInputs ? "executable" : "both");
  const executableOutputs = section("executable_outputs", clientOutputs ? "executable" : "both");
  const required = kind === "model"
    ? { executable_inputs: executableInputs, executable_outputs: executableOutputs }
    : { client_inputs: clientInputs, client_outputs: clientOutputs };
  for (const [path, tensors] of Object.entries(required)) {
    if (tensors === undefined) throw reader.keyError(path, `is required for kind: ${kind}`);
    if (kind === "meta" && tensors.length === 0) throw reader.keyError(path, "must not be empty");
  }
  checkAllOrNoneBatched(reader, executableInputs ?? []);
  return {
    kind,
    description,
    axisOrder,
    executableInputs: executableInputs ?? [],
    executableOutputs: executableOutputs ?? [],
    clientInputs: clientInputs ?? executableInputs ?? [],
    clientOutputs: clientOutputs ?? executableOutputs ?? [],
    compiledBatchSizes: readBatchSizes(reader, root),
    variants: readVariants(reader, root, kind, executableInputs ?? []),
    calls: kind === "meta" ? readCalls(reader, root, bundle) : [],
    provenance: readProvenance(root),
    warnings: reader.warnings,
  };
}

/** The first client-facing input with a batch axis, and the wire index of that axis. */
export function batchInputOf(manifest: Manifest): { name: string; axis: number } | undefined {
  for (const { name, batchAxis } of manifest.clientInputs) {
    if (batchAxis !== undefined) return { name, axis: batchAxis };
  }
  return undefined;
}

function checkFormatVersion(reader: ManifestReader, root: YamlMapping): void {
  const version = root.get("format_version");
  if (version === undefined) throw reader.keyError("format_version", "is required");
  const accepted = version === 2n || version === 2 || version === "2" || version === "2.0";
  if (!accepted) throw reader.keyError("format_version", `must be 2.0, got ${describe(version)}`);
}

/**
 * Unknown keys are warnings, because the original ignores them and its bundles must load. A near miss
 * of `axis_order` is an error: no bundle of the original has that key, and ignoring it would read every
 * shape the wrong way round.
 */
function checkKnownKeys(reader: ManifestReader, root: YamlMapping): void {
  for (const key of root.keys()) {
    const name = String(key);
    if (!MANIFEST_KEYS.includes(name) && nearest(name, MANIFEST_KEYS) === "axis_order") {
      throw reader.keyError(name, 'is unknown; did you mean "axis_order"?');
    }
  }
  reader.warnUnknownKeys(root, "", MANIFEST_KEYS);
}

/** One of `choices`; the first where the key is absent. */
function readChoice<const T extends string>(
  reader: ManifestReader,
  root: YamlMapping,
  key: string,
  choices: readonly [T, ...T[]],
): T {
  if (!root.has(key)) return choices[0];
  const value = root.get(key);
  const choice = choices.find((candidate) => candidate === value);
  if (choice !== undefined) return choice;
  throw reader.keyError(key, `must be ${choices.join(" or ")}, got ${describe(value)}`);
}

function readDescription(reader: ManifestReader, root: YamlMapping): string {
  const value = root.get("description") ?? "";
  if (typeof value === "object") {
    throw reader.keyError("description", `must be a single value, got ${describe(value)}`);
  }
  return String(value);
}

function checkNeedsNoHook(reader: ManifestReader, root: YamlMapping, kind: string): void {
  if (kind === "meta") {
    throw reader.error('a bundle with kind "meta" needs a hook file (model.ts), and there is none');
  }
  for (const key of ["client_inputs", "client_outputs"]) {
    if (root.has(key)) {
      throw reader.keyError(key, "needs a hook file (model.ts), and there is none");
    }
  }
}

function checkAllOrNoneBatched(reader: ManifestReader, inputs: readonly ManifestTensor[]): void {
  const unbatched = inputs.filter(({ batchAxis }) => batchAxis === undefined);
  if (unbatched.length === 0 || unbatched.length === inputs.length) return;
  const names = unbatched.map(({ name }) => quote(name)).join(", ");
  throw reader.keyError(
    "executable_inputs",
    `must have a batch axis in all tensors or in none; these have none: ${names}`,
  );
}

function readBatchSizes(reader: ManifestReader, root: YamlMapping): number[] {
  if (!root.has("batching")) return [];
  const batching = reader.mapping(root.get("batching"), "batching");
  reader.warnUnknownKeys(batching, "batching", ["compiled_batch_sizes"]);
  if (!batching.has("compiled_batch_sizes")) return [];
  const path = "batching.compiled_batch_sizes";
  const sizes = reader.list(batching.get("compiled_batch_sizes"), path, MAX_BATCH_SIZES).map(
    (size, index) => reader.integer(size, `${path}[${index}]`, { minimum: 1, maximum: MAX_EXTENT }),
  );
  return [...new Set(sizes)].sort((a, b) => a - b);
}

function readVariants(
  reader: ManifestReader,
  root: YamlMapping,
  kind: "model" | "meta",
  inputs: readonly ManifestTensor[],
): ShapeVariant[] {
  if (kind === "model") return readInputShapes(reader, root, inputs);
  if (root.has("input_shapes")) {
    throw reader.keyError(
      "input_shapes",
      "must not be given for kind: meta, which has no programs",
    );
  }
  return [];
}

function readCalls(reader: ManifestReader, root: YamlMapping, bundle: string): string[] {
  const meta = reader.mapping(root.get("meta"), "meta");
  reader.warnUnknownKeys(meta, "meta", ["calls"]);
  const calls: string[] = [];
  reader.list(meta.get("calls"), "meta.calls", MAX_CALLS).forEach((value: YamlValue, index) => {
    const path = `meta.calls[${index}]`;
    const name = reader.text(value, path, MAX_NAME_LENGTH);
    if (name === bundle) throw reader.keyError(path, "must not be the meta model itself");
    if (calls.includes(name)) throw reader.keyError(path, `repeats ${quote(name)}`);
    calls.push(name);
  });
  return calls;
}

function readProvenance(root: YamlMapping): ReadonlyMap<unknown, unknown> {
  const value = root.get("provenance");
  return value instanceof Map ? value : new Map();
}
