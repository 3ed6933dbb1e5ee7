/** One bundle: a directory read, checked and opened. */
import { basename, join } from "node:path";
import { BundleError, messageOf } from "../errors.ts";
import { readBoundedText } from "./bounded_file.ts";
import { findHook, HOOK_FILE, type HookFile } from "./hooks.ts";
import { MAX_BUNDLE_ENTRIES, MAX_MANIFEST_BYTES } from "./limits.ts";
import { type Manifest, parseManifest } from "./manifest.ts";
import { type BundleFile, findPrograms, isProgramName, type VariantPrograms } from "./programs.ts";
import { Weights, WEIGHTS_FILE } from "./weights.ts";

/** Name of the file that makes a directory a bundle. */
export const MANIFEST_FILE = "manifest.yaml";

interface BundleCommon {
  /** The model name: the directory's name. */
  readonly name: string;
  readonly directory: string;
  readonly manifest: Manifest;
  readonly warnings: readonly string[];
}

/** A model with programs and weights. Owns the open weights file: dispose it when the model goes. */
export interface ModelBundle extends BundleCommon, Disposable {
  readonly kind: "model";
  readonly hook: HookFile | undefined;
  /** One entry per shape variant, in order of their index. */
  readonly programs: readonly VariantPrograms[];
  readonly weights: Weights;
}

/** A model that calls other models. Owns nothing. */
export interface MetaBundle extends BundleCommon, Disposable {
  readonly kind: "meta";
  readonly hook: HookFile;
}

export type Bundle = ModelBundle | MetaBundle;

/**
 * Reads a bundle: manifest, the list of programs, the weights file's header. Nothing is compiled and no
 * weight is read; `checkSignature` compares program and manifest once a program is compiled.
 * @param name the model name, where it is not the directory's name
 * @throws {BundleError} always of this class, with the reason
 */
export async function loadBundle(directory: string, name?: string): Promise<Bundle> {
  const bundle = name ?? basename(directory);
  const files = await listFiles(bundle, directory);
  const hook = findHook(bundle, directory, files);
  const text = await readBoundedText(
    bundle,
    join(directory, MANIFEST_FILE),
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
  );
  const manifest = parseManifest(bundle, text, hook !== undefined);
  const common = { name: bundle, directory, manifest };
  if (manifest.kind === "meta") {
    return {
      ...common,
      kind: "meta",
      hook: hook!,
      warnings: manifest.warnings,
      [Symbol.dispose]: () => {},
    };
  }
  const { variants, warnings } = findPrograms(bundle, manifest, files);
  const weights = Weights.open(bundle, join(directory, WEIGHTS_FILE), manifest.axisOrder);
  return {
    ...common,
    kind: "model",
    hook,
    programs: variants,
    weights,
    warnings: [...manifest.warnings, ...warnings, ...weights.warnings],
    [Symbol.dispose]: () => weights[Symbol.dispose](),
  };
}

/** The files directly in the directory; links are followed. */
async function listFiles(bundle: string, directory: string): Promise<BundleFile[]> {
  try {
    const files: BundleFile[] = [];
    let entries = 0;
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      if (++entries > MAX_BUNDLE_ENTRIES) {
        throw new BundleError(bundle, `has more than ${MAX_BUNDLE_ENTRIES} directory entries`);
      }
      const path = join(directory, name);
      const info = isDirectory ? undefined : await statOrUndefined(path);
      if (info?.isFile) files.push({ name, path, byteLength: info.size });
      // Nobody might miss it: without its hooks the model answers, but wrongly; without a program it
      // answers, but not in batches of that size.
      else if (name === HOOK_FILE || isProgramName(name)) {
        throw new BundleError(bundle, `${name} is not a regular file, nor a link to one`);
      }
    }
    return files;
  } catch (error) {
    if (error instanceof BundleError) throw error;
    throw new BundleError(bundle, `its directory cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** `undefined` where a link leads nowhere: whatever needs the file then reports it as missing. */
async function statOrUndefined(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
