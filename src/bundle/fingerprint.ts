/** When is a bundle on disk still the one that was loaded? */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { BundleError, messageOf } from "../errors.ts";
import { MANIFEST_FILE } from "./bundle.ts";
import { GOLDEN_FILE } from "./golden.ts";
import { HOOK_FILE, JULIA_HOOK_FILE } from "./hooks.ts";
import { MAX_BUNDLE_DEPTH, MAX_BUNDLE_ENTRIES } from "./limits.ts";
import { isProgramName } from "./programs.ts";
import { WEIGHTS_FILE } from "./weights.ts";

/** Name of the file with example inputs and outputs; it is for checking and affects nothing. */
/** A bundle directory at one moment. Both parts are opaque texts to compare. */
export interface Fingerprint {
  /**
   * Changes whenever a file that the model depends on does: manifest, weights, every program, the hook
   * file, and with a hook file everything else it could read. Built from name, size, modification time,
   * change time and inode of each, never from contents: it is taken at every poll. The change time and
   * the inode catch files replaced with their old modification time kept.
   */
  readonly contents: string;
  /** Stays the same when the directory is renamed, and differs between two links to one directory. */
  readonly identity: string;
}

/**
 * Takes the fingerprint of a bundle directory.
 * @throws {BundleError} when the directory cannot be read, or holds too much
 */
export async function fingerprintBundle(bundle: string, directory: string): Promise<Fingerprint> {
  try {
    const link = await Deno.lstat(directory);
    const info = link.isSymlink ? await Deno.stat(directory) : link;
    const lines: string[] = [];
    await addFiles(bundle, directory, "", lines, 0);
    const isRelevant = lines.some((line) => line.startsWith(`${HOOK_FILE}\0`))
      ? () => true
      : (line: string) => isServerFile(line.slice(0, line.indexOf("\0")));
    const hash = createHash("sha256");
    for (const line of lines.filter(isRelevant).sort()) hash.update(line).update("\n");
    return {
      contents: hash.digest("hex"),
      identity: `${link.dev}:${link.ino}:${info.dev}:${info.ino}`,
    };
  } catch (error) {
    if (error instanceof BundleError) throw error;
    throw new BundleError(bundle, `its directory cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function addFiles(
  bundle: string,
  directory: string,
  prefix: string,
  lines: string[],
  depth: number,
): Promise<void> {
  for await (const entry of Deno.readDir(directory)) {
    // Dotfiles are what editors, synchronisers and version control leave behind.
    if (entry.name.startsWith(".") || prefix + entry.name === GOLDEN_FILE) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory) {
      // Links to directories are not followed: they could form a loop or lead out of the bundle.
      if (depth < MAX_BUNDLE_DEPTH) {
        await addFiles(bundle, path, `${prefix}${entry.name}/`, lines, depth + 1);
      }
      continue;
    }
    if (lines.length === MAX_BUNDLE_ENTRIES) {
      throw new BundleError(bundle, `holds more than ${MAX_BUNDLE_ENTRIES} files`);
    }
    const info = await Deno.stat(path).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return undefined; // a dangling link, or just removed
      throw error;
    });
    if (info?.isDirectory) continue;
    const times = `${info?.mtime?.getTime()}:${info?.ctime?.getTime()}`;
    lines.push(`${prefix}${entry.name}\0${info?.size}:${times}:${info?.ino}`);
  }
}

function isServerFile(name: string): boolean {
  return name === MANIFEST_FILE || name === WEIGHTS_FILE || name === JULIA_HOOK_FILE ||
    isProgramName(name);
}
