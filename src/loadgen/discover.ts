/** Which models there are to load: asked over the wire, or read from a folder of bundles. */

import {
  type Bundle,
  GoldenFile,
  loadBundle,
  type ManifestTensor,
  type ModelBundle,
  scanRepository,
} from "../bundle/mod.ts";
import type { InferenceClient, UnaryOptions } from "../client/mod.ts";
import { ConfigError, messageOf, ServerError } from "../errors.ts";
import { ControlService, type ModelMetadataResponse_TensorMetadata } from "../protocol/mod.ts";
import { datatypeFromWire } from "../tensor/mod.ts";
import {
  type DeclaredTensor,
  type LoadModel,
  type SkippedModel,
  whyUnusable,
} from "./load_model.ts";

/** What was found. */
export interface Discovery {
  readonly models: readonly LoadModel[];
  readonly skipped: readonly SkippedModel[];
}

export interface DiscoveryOptions {
  /** `name` or `name=weight`; none: all. */
  readonly wanted: readonly string[];
  readonly skipsInternal: boolean;
  /** Read recorded answers too. */
  readonly readsGolden: boolean;
  /** Ends the asking. */
  readonly signal: AbortSignal;
}

/** For each question. */
const CALL_LIMIT_MS = 10_000;

/**
 * Asks the server: its index, then metadata and configuration of each model.
 * @returns `undefined` when the server does not answer such questions
 * @throws {ServerError} when it cannot be asked
 */
export async function discoverOnWire(
  inference: InferenceClient,
  options: DiscoveryOptions,
): Promise<Discovery | undefined> {
  const weights = parseWanted(options.wanted);
  const { signal } = options;
  const limits = () => ({ deadlineMs: performance.now() + CALL_LIMIT_MS, signal });
  try {
    const index = await inference.repositoryIndex({ onlyReady: true }, limits());
    const largest = await largestBatches(inference, limits());
    const names = index.map(({ name }) => name).filter((name) => !weights || weights.has(name));
    const models = await Promise.all(names.map(async (name): Promise<LoadModel | SkippedModel> => {
      try {
        const { inputs, outputs } = await inference.modelMetadata(name, limits());
        const config = await inference.modelConfig(name, limits());
        const limit = Math.max(config.maxBatchSize, largest.get(name) ?? 0);
        const preferred = config.schedulingChoice.case === "dynamicBatching"
          ? config.schedulingChoice.value.preferredBatchSize
          : [];
        return {
          name,
          weight: weights?.get(name) ?? 1,
          inputs: inputs.map((tensor) => declaredOnWire(tensor, limit)),
          outputs: outputs.map((tensor) => declaredOnWire(tensor, limit)),
          sizes: ladder(limit, preferred),
        };
      } catch (error) {
        // A server without such questions is asked otherwise; one model that cannot answer is left out.
        const isAboutModel = error instanceof UnmappedError ||
          (error instanceof ServerError && error.status !== "UNIMPLEMENTED" && !signal.aborted);
        if (isAboutModel) return { name, reason: messageOf(error) };
        throw error;
      }
    }));
    return sift(models, names, weights);
  } catch (error) {
    if (error instanceof ServerError && error.status === "UNIMPLEMENTED") return undefined;
    throw error;
  }
}

/**
 * Reads a folder of bundles.
 * @throws {ConfigError} when the folder cannot be read
 */
export async function discoverInRepository(
  folder: string,
  options: DiscoveryOptions,
): Promise<Discovery> {
  const weights = parseWanted(options.wanted);
  const { found, failures, rootFailures } = await scanRepository([folder]);
  for (const { reason } of rootFailures) {
    throw new ConfigError(`Cannot read the bundles in ${JSON.stringify(folder)}: ${reason}`);
  }
  const skipped: SkippedModel[] = failures.map(({ name, error }) => ({
    name,
    reason: error.message,
  }));
  const bundles: { model: LoadModel; calls: readonly string[] }[] = [];
  for (const { name, directory } of found) {
    try {
      using bundle = await loadBundle(directory);
      const model = declaredInBundle(bundle, weights?.get(name) ?? 1, options.readsGolden);
      bundles.push({ model, calls: bundle.manifest.calls });
    } catch (error) {
      skipped.push({ name, reason: messageOf(error) });
    }
  }
  const internal = new Set(options.skipsInternal ? bundles.flatMap(({ calls }) => calls) : []);
  const models = bundles.map(({ model }) =>
    internal.has(model.name)
      ? { name: model.name, reason: "a meta model calls it; clients do not" }
      : model
  );
  const wanted = (name: string) => !weights || weights.has(name);
  const all = [...models, ...skipped].filter(({ name }) => wanted(name));
  return sift(all, all.map(({ name }) => name), weights);
}

/** Reads `name=weight` entries. @throws {ConfigError} for a weight that is none */
function parseWanted(wanted: readonly string[]): Map<string, number> | undefined {
  if (wanted.length === 0) return undefined;
  return new Map(wanted.map((entry) => {
    const at = entry.lastIndexOf("=");
    if (at < 0) return [entry, 1];
    const weight = Number(entry.slice(at + 1));
    if (weight > 0 && Number.isFinite(weight)) return [entry.slice(0, at), weight];
    throw new ConfigError(
      `--models: the weight in ${JSON.stringify(entry)} must be a positive number, as in digits=3`,
    );
  }));
}

/** A model whose tensors cannot be filled. */
class UnmappedError extends Error {}

/** Usable models and the rest with their reasons; names that were asked for and are not there as well. */
function sift(
  found: readonly (LoadModel | SkippedModel)[],
  known: readonly string[],
  weights: ReadonlyMap<string, number> | undefined,
): Discovery {
  const models: LoadModel[] = [];
  const skipped: SkippedModel[] = [];
  for (const entry of found) {
    const reason = "reason" in entry ? entry.reason : whyUnusable(entry);
    if (reason !== undefined) skipped.push({ name: entry.name, reason });
    else models.push(entry as LoadModel);
  }
  for (const name of weights?.keys() ?? []) {
    if (!known.includes(name)) {
      skipped.push({ name, reason: "there is no such model, or it is not ready" });
    }
  }
  const byName = (a: { name: string }, b: { name: string }) => a.name < b.name ? -1 : 1;
  return { models: models.sort(byName), skipped: skipped.sort(byName) };
}

/** Largest batches by model, from the control service; empty where that is not served. */
async function largestBatches(
  inference: InferenceClient,
  limits: UnaryOptions,
): Promise<Map<string, number>> {
  try {
    const { models } = await inference.call(ControlService.method.modelControlStatus, {}, limits);
    return new Map(models.map(({ name, maxBatchSize }) => [name, Number(maxBatchSize)]));
  } catch (error) {
    if (error instanceof ServerError) return new Map();
    throw error;
  }
}

function declaredOnWire(
  { name, datatype, shape }: ModelMetadataResponse_TensorMetadata,
  largestBatch: number,
): DeclaredTensor {
  const info = datatypeFromWire(datatype);
  if (info === undefined) {
    throw new UnmappedError(
      `tensor ${JSON.stringify(name)} has datatype ${
        JSON.stringify(datatype)
      }, which is not known here`,
    );
  }
  const extents = shape.map(Number);
  const open = extents.flatMap((extent, axis) => extent < 0 ? [axis] : []);
  // Inputs have the batch axis all or none. Without a batch, a lone leading axis is one row of a meta.
  const isBatch = open.length === 1 && (largestBatch > 0 || open[0] === 0);
  return {
    name,
    datatype: info.datatype,
    shape: extents,
    batchAxis: isBatch ? open[0] : undefined,
  };
}

/** The compiled sizes as far as they are known: one row and the largest batch at least. */
function ladder(largest: number, preferred: readonly number[]): number[] {
  const sizes = new Set([1, ...preferred.filter((size) => size <= largest)]);
  if (largest > 1) sizes.add(largest);
  return [...sizes].sort((a, b) => a - b);
}

/** Sizes of the programs there are, whatever the manifest says of them. */
function compiledSizes({ programs }: ModelBundle): number[] {
  const sizes = programs.flatMap(({ files }) => files.map(({ batchKey }) => batchKey));
  return ladder(Math.max(1, ...sizes), sizes.filter((size) => size > 0));
}

function declaredInBundle(bundle: Bundle, weight: number, readsGolden: boolean): LoadModel {
  const { manifest } = bundle;
  const declared = ({ name, datatype, shape, batchAxis }: ManifestTensor): DeclaredTensor => ({
    name,
    datatype,
    shape,
    batchAxis,
  });
  const inputs = manifest.clientInputs.map(declared);
  const isBatched = bundle.kind === "model" &&
    inputs.some(({ batchAxis }) => batchAxis !== undefined);
  return {
    name: bundle.name,
    weight,
    inputs,
    outputs: manifest.clientOutputs.map(declared),
    sizes: isBatched ? compiledSizes(bundle) : [1],
    ...(readsGolden ? goldenOf(bundle) : {}),
  };
}

/**
 * A meta model's golden is a client's request. Others are of programs; with a hook in between clients send and
 * receive other tensors.
 */
function goldenOf(bundle: Bundle): Pick<LoadModel, "golden"> {
  if (bundle.kind === "model" && bundle.hook !== undefined) return {};
  using file = GoldenFile.open(bundle);
  if (file === undefined) return {};
  const all = bundle.kind === "meta"
    ? [file.request()]
    : bundle.programs.flatMap(({ files }) => files).map((program) => file.caseOf(program));
  const cases = all.flatMap((recorded) => {
    if (recorded === undefined) return [];
    const own = (tensors: typeof recorded.inputs) =>
      tensors.map((tensor) => ({ ...tensor, data: tensor.data.slice() }));
    return [{ inputs: own(recorded.inputs), outputs: own(recorded.outputs) }];
  });
  return cases.length === 0 ? {} : { golden: { cases, tolerance: file.tolerance } };
}
