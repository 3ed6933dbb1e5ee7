/** The hook file of a bundle: found and read here, run elsewhere. */
import { BundleError } from "../errors.ts";
import { readBoundedText } from "./bounded_file.ts";
import { MAX_HOOK_BYTES } from "./limits.ts";
import type { BundleFile } from "./programs.ts";

/** Name of the hook file in a bundle. */
export const HOOK_FILE = "model.ts";
/** Its name in bundles of the original server, which runs Julia. */
export const JULIA_HOOK_FILE = "model.jl";

/** User code that goes with a bundle. */
export interface HookFile {
  readonly path: string;
  /** The bundle directory: all the code may read. */
  readonly directory: string;
}

/**
 * The hook file among a bundle's files, if it has one.
 * @throws {BundleError} for a bundle with only the original's Julia code: without its hooks the model
 *   would answer, but wrongly
 */
export function findHook(
  bundle: string,
  directory: string,
  files: readonly BundleFile[],
): HookFile | undefined {
  const file = files.find(({ name }) => name === HOOK_FILE);
  if (file !== undefined) return { path: file.path, directory };
  if (files.some(({ name }) => name === JULIA_HOOK_FILE)) {
    throw new BundleError(
      bundle,
      `has ${JULIA_HOOK_FILE}, which this server cannot run: write the same hooks in ${HOOK_FILE} ` +
        `beside it (the README shows how), or remove ${JULIA_HOOK_FILE} if the model needs no hooks`,
    );
  }
  return undefined;
}

/** The source text of a hook file. @throws {BundleError} */
export function readHook(bundle: string, hook: HookFile): Promise<string> {
  return readBoundedText(bundle, hook.path, HOOK_FILE, MAX_HOOK_BYTES);
}
