/** Model directories: which bundles are there, and what only shows when they are seen together. */
import { join } from "node:path";
import { BundleError, messageOf } from "../errors.ts";
import { type Bundle, MANIFEST_FILE } from "./bundle.ts";
import { MAX_ROOT_ENTRIES } from "./limits.ts";
import { quote } from "./manifest_reader.ts";

/** A directory that claims to be a bundle; nothing in it has been read. */
export interface FoundBundle {
  /** The model name: the directory's name. */
  readonly name: string;
  readonly directory: string;
}

/** A bundle that cannot be used, and why. */
export interface BundleFailure {
  readonly name: string;
  readonly error: BundleError;
}

/** A model directory that could not be listed. What it held before is unknown, not gone. */
export interface RootFailure {
  readonly root: string;
  /** For people. */
  readonly reason: string;
}

/** What model directories hold right now. */
export interface RepositoryScan {
  /** By name. */
  readonly found: readonly FoundBundle[];
  readonly failures: readonly BundleFailure[];
  readonly rootFailures: readonly RootFailure[];
}

/**
 * Lists the bundles of several model directories: every immediate sub-directory, or link to one, that
 * has a manifest. Never throws for what it finds.
 * @param include names to look at; empty means all
 */
export async function scanRepository(
  roots: readonly string[],
  include: readonly string[] = [],
): Promise<RepositoryScan> {
  const rootFailures: RootFailure[] = [];
  const failures: BundleFailure[] = [];
  const byName = new Map<string, FoundBundle[]>();
  const seenRoots = new Set<string>();
  for (const root of roots) {
    try {
      const realRoot = await Deno.realPath(root);
      if (seenRoots.has(realRoot)) continue;
      seenRoots.add(realRoot);
      const names = await listNames(root, include);
      for (const name of names) {
        const directory = join(root, name);
        const state = await inspectDirectory(name, directory);
        if (state instanceof BundleError) failures.push({ name, error: state });
        else if (state) byName.set(name, [...byName.get(name) ?? [], { name, directory }]);
      }
    } catch (error) {
      rootFailures.push({ root, reason: messageOf(error) });
    }
  }
  const found: FoundBundle[] = [];
  for (const [name, places] of byName) {
    if (places.length === 1) found.push(places[0]!);
    else {
      const list = places.map(({ directory }) => directory).join(" and ");
      const problem = `it exists more than once, and neither copy is more right: ${list}`;
      failures.push({ name, error: new BundleError(name, problem) });
    }
  }
  return { found: found.sort(byNameOrder), failures: failures.sort(byNameOrder), rootFailures };
}

/**
 * Metas that call metas. They are refused: a call waits for a slot of the same pool its caller holds,
 * so nested calls could block each other for good.
 */
export function findNestedMetas(
  bundles: readonly Pick<Bundle, "name" | "kind" | "manifest">[],
): BundleFailure[] {
  const metas = new Set(bundles.filter(({ kind }) => kind === "meta").map(({ name }) => name));
  return bundles.flatMap(({ name, manifest }) => {
    const called = manifest.calls.find((call) => metas.has(call));
    if (called === undefined) return [];
    const problem = `manifest key "meta.calls" lists ${
      quote(called)
    }, which is a meta model itself`;
    return [{ name, error: new BundleError(name, problem) }];
  });
}

async function listNames(root: string, include: readonly string[]): Promise<string[]> {
  const names: string[] = [];
  let entries = 0;
  for await (const { name, isFile } of Deno.readDir(root)) {
    if (++entries > MAX_ROOT_ENTRIES) throw new Error(`has more than ${MAX_ROOT_ENTRIES} entries`);
    if (!isFile && (include.length === 0 || include.includes(name))) names.push(name);
  }
  return names;
}

/** Whether this is a bundle; an error when it looks like one that cannot be read. */
async function inspectDirectory(name: string, directory: string): Promise<boolean | BundleError> {
  try {
    const { isDirectory } = await Deno.stat(directory);
    if (!isDirectory) return false;
  } catch (error) {
    return new BundleError(name, describeProblem(name, error), { cause: error });
  }
  try {
    await Deno.lstat(join(directory, MANIFEST_FILE));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    // The root of an ext4 volume has this directory, which only the superuser can look into.
    if (name === "lost+found") return false;
    const problem = `its directory cannot be read: ${messageOf(error)}`;
    return new BundleError(name, problem, { cause: error });
  }
}

function describeProblem(name: string, error: unknown): string {
  if (!(error instanceof Deno.errors.NotFound)) return `it cannot be read: ${messageOf(error)}`;
  // Bytes that are not UTF-8 come as this character, and lead back to nothing.
  return name.includes("\ufffd")
    ? "its name is not UTF-8; rename the directory"
    : "it is a link to something that does not exist";
}

function byNameOrder(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
