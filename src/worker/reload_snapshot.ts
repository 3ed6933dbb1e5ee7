/** What the model folders hold at one moment: each bundle's fingerprint, or what is wrong with it. */

import { dirname, join } from "node:path";
import { type Fingerprint, fingerprintBundle, scanRepository } from "../bundle/mod.ts";
import type { ServerConfig } from "../config/mod.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { Limiter } from "./limiter.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ServedModel } from "./served_model.ts";

/** Fingerprints taken at once; each is a few look-ups per file. */
const MAX_CONCURRENT_FINGERPRINTS = 4;

/** A bundle as it was seen once. */
export interface Sighting extends Fingerprint {
  /** Empty where it is not one directory that could be read. */
  readonly directory: string;
  /** Why it cannot be loaded, where that shows without opening it. */
  readonly problem?: unknown;
}

export interface RepositorySnapshot {
  /** By model name. */
  readonly models: ReadonlyMap<string, Sighting>;
  /** Folders that could not be listed, and why: what they hold is unknown, not gone. */
  readonly unreadable: ReadonlyMap<string, string>;
}

/** Looks through the model folders. Never rejects for what it finds. */
export async function takeSnapshot(
  roots: readonly string[],
  include: readonly string[],
): Promise<RepositorySnapshot> {
  const scan = await scanRepository(roots, include);
  const models = new Map<string, Sighting>();
  for (const { name, error } of scan.failures) models.set(name, unusable("", error));
  const limiter = new Limiter(MAX_CONCURRENT_FINGERPRINTS);
  await Promise.all(scan.found.map(({ name, directory }) =>
    limiter.run(async () => {
      try {
        const fingerprint = await fingerprintBundle(name, directory);
        models.set(name, { ...fingerprint, directory });
      } catch (error) {
        models.set(name, unusable(directory, error));
      }
    })
  ));
  const unreadable = scan.rootFailures.map(({ root, reason }) => [folderOf(root), reason] as const);
  return { models, unreadable: new Map(unreadable) };
}

/**
 * Takes one snapshot after the other. A folder that bundles were in, and that is empty and on another file
 * system now, is a mount that is gone, and not a folder that somebody emptied: it counts as one that
 * cannot be listed.
 */
export function snapshots(
  roots: readonly string[],
  include: readonly string[],
): () => Promise<RepositorySnapshot> {
  /** The file systems that bundles were last seen on, by folder. */
  const mounted = new Map<string, number>();
  return async () => {
    const snapshot = await takeSnapshot(roots, include);
    const unreadable = new Map(snapshot.unreadable);
    const filled = new Set(
      Array.from(snapshot.models.values(), ({ directory }) => dirname(directory)),
    );
    for (const folder of roots.map(folderOf)) {
      if (unreadable.has(folder)) continue;
      const device = (await Deno.stat(folder).catch(() => undefined))?.dev;
      const before = mounted.get(folder);
      if (filled.has(folder)) {
        if (device !== undefined) mounted.set(folder, device);
      } else if (before !== undefined && before !== device) {
        unreadable.set(folder, "what was mounted there is gone");
      } else {
        mounted.delete(folder);
      }
    }
    return { ...snapshot, unreadable };
  };
}

/** A model folder as the folder of a bundle in it would be written. */
function folderOf(root: string): string {
  return dirname(join(root, "bundle"));
}

/**
 * Announces every bundle of the first snapshot to the registry, so that from here on each name answers
 * with its state.
 */
export function announceSnapshot(
  snapshot: RepositorySnapshot,
  { config, registry, logger }: {
    config: ServerConfig;
    registry: ModelRegistry<ServedModel>;
    logger: Logger;
  },
): void {
  for (const [folder, reason] of snapshot.unreadable) {
    logger.error("A model folder cannot be read", { folder, reason });
  }
  for (const [name, { problem }] of snapshot.models) {
    if (problem === undefined) registry.beginLoading(name);
    else registry.setFailed(name, messageOf(problem));
  }
  for (const name of config.modelsInclude) {
    if (snapshot.models.has(name)) continue;
    logger.warn("A model to include is in no model folder", { model: name });
  }
  if (snapshot.models.size === 0) {
    logger.warn("No bundle found: nothing to serve", { folders: config.modelDirs });
  }
}

function unusable(directory: string, error: unknown): Sighting {
  return { directory, contents: `unusable: ${messageOf(error)}`, identity: "", problem: error };
}
