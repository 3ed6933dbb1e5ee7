/**
 * Copies what a package of the program consists of, and nothing else, into a folder: the modules that
 * `main.ts` and the assets reach, the locked npm packages without what only compilers and people read,
 * and a note on where it all comes from. Both kinds of package are made from such a folder, so what the
 * one was tested with the other has too, and no path of the build machine gets into either.
 */

import { dirname, relative } from "node:path";
import { ASSETS, BUILD_FILE } from "../../src/standalone.ts";

/** A packaging step that cannot go on; the message is for the one who builds. */
export class CompileError extends Error {}

export interface StageOptions {
  /** The repository's root. */
  readonly root: string;
  /** An empty or missing folder to fill. */
  readonly target: string;
  /** What `--version` shall say; asked of git when it is not given. */
  readonly commit?: string | undefined;
}

/** What lies in a staged folder. */
export interface Stage {
  readonly folder: string;
  readonly commit: string;
  readonly version: string;
  /** Modules of the program, relative to the folder. */
  readonly modules: readonly string[];
  /** npm packages, as `name@version`. */
  readonly packages: readonly string[];
}

/** Declarations, maps and manuals: most of the packages' bytes, never read while the program runs. */
const SUPERFLUOUS = /\.(d\.[cm]?ts|map|md|markdown|flow|proto)$|\.d\.ts\./;
/** Stays whatever its ending: the packages' terms ask for it. */
const TERMS = /^(licen[cs]e|notice|copying|copyright)/i;
const TYPES_ONLY = /^(@types\/|undici-types@)/;

/**
 * @throws {CompileError} when the modules or packages cannot be found out, fetched or copied
 */
export async function stageProgram({ root, target, commit }: StageOptions): Promise<Stage> {
  const code = ASSETS.filter((name) => name.endsWith(".ts"));
  const { modules, packages } = await reachable(root, ["main.ts", ...code]);
  for (const path of new Set([...modules, ...ASSETS])) copy(root, target, path);
  const config = JSON.parse(Deno.readTextFileSync(`${root}/deno.json`));
  const { name, version, license, exports, imports, unstable, compilerOptions } = config;
  const packaged = { name, version, license, exports, imports, unstable, compilerOptions };
  copy(root, target, "deno.lock");
  copy(root, target, "LICENSE");
  // `manual`: what lies in node_modules is what there is, with no cache and no registry behind it.
  writeJson(`${target}/deno.json`, { ...packaged, nodeModulesDir: "manual" });
  await deno(
    target,
    ["install", "--quiet", "--frozen", "--node-modules-dir=auto", "--entrypoint", "main.ts"],
    "cannot fetch the locked npm packages",
  );
  Deno.removeSync(`${target}/deno.lock`);
  prunePackages(`${target}/node_modules`, new Set(packages));
  const origin = commit ?? await commitOf(root);
  writeJson(`${target}/${BUILD_FILE}`, { commit: origin });
  return { folder: target, commit: origin, version, modules, packages };
}

/** The program's own modules and the packages that these entry points reach. */
export async function reachable(
  root: string,
  entries: readonly string[],
): Promise<{ modules: string[]; packages: string[] }> {
  const modules = new Set<string>();
  const packages = new Set<string>();
  for (const entry of entries) {
    const text = await deno(root, ["info", "--json", entry], `cannot read the imports of ${entry}`);
    const graph = JSON.parse(text) as {
      modules: { specifier: string; local?: string; error?: string; npmPackage?: string }[];
      npmPackages: Record<string, { name: string; version: string; dependencies: string[] }>;
    };
    // Lists the whole lock file, not only what these modules lead to.
    const add = (key: string) => {
      const { name, version, dependencies } = graph.npmPackages[key]!;
      if (packages.has(`${name}@${version}`)) return;
      packages.add(`${name}@${version}`);
      dependencies.forEach(add);
    };
    for (const { specifier, local, error, npmPackage } of graph.modules) {
      if (error !== undefined) throw new CompileError(`${specifier}: ${error}`);
      if (npmPackage !== undefined) add(npmPackage);
      if (specifier.startsWith("file:") && local !== undefined) modules.add(relative(root, local));
    }
  }
  const outside = [...modules].filter((path) => path.startsWith(".."));
  if (outside.length > 0) throw new CompileError(`${outside[0]} lies outside of ${root}`);
  return {
    modules: [...modules].sort(),
    packages: [...packages].filter((name) => !TYPES_ONLY.test(name)).sort(),
  };
}

/** Removes packages that are not in the set, files nothing reads, and links that now lead nowhere. */
function prunePackages(folder: string, wanted: ReadonlySet<string>): void {
  for (const { name, isDirectory } of Deno.readDirSync(`${folder}/.deno`)) {
    if (name === "node_modules") continue;
    // Deno's folders are named `@scope+name@version`, with `_1` and so on behind a second copy.
    const packageName = name.replace("+", "/").replace(/_\d+$/, "");
    if (isDirectory && wanted.has(packageName)) pruneFiles(`${folder}/.deno/${name}`);
    else Deno.removeSync(`${folder}/.deno/${name}`, { recursive: true });
  }
  Deno.removeSync(`${folder}/.bin`, { recursive: true });
  removeDeadEnds(folder);
}

function pruneFiles(folder: string): void {
  for (const { name, isDirectory, isFile } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) pruneFiles(path);
    else if (isFile && SUPERFLUOUS.test(name) && !TERMS.test(name)) Deno.removeSync(path);
  }
}

/** Dangling links, and folders that hold nothing else. */
function removeDeadEnds(folder: string): void {
  for (const { name, isDirectory, isSymlink } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) removeDeadEnds(path);
    else if (isSymlink && !exists(path)) Deno.removeSync(path);
  }
  if (Deno.readDirSync(folder)[Symbol.iterator]().next().done) Deno.removeSync(folder);
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The checked-out commit, marked when the files that get packaged differ from it. */
async function commitOf(root: string): Promise<string> {
  const git = async (...args: string[]) => {
    try {
      const { success, stdout } = await new Deno.Command("git", {
        args: ["-C", root, ...args],
        stderr: "null",
      }).output();
      return success ? new TextDecoder().decode(stdout).trim() : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  const commit = await git("rev-parse", "--short=12", "HEAD");
  if (commit === undefined) return "unknown";
  const changes = await git("status", "--porcelain", "--", "main.ts", "src", "ffi", "deno.json");
  return changes === "" ? commit : `${commit}-modified`;
}

/** Runs this Deno in a folder and gives what it prints. */
async function deno(folder: string, args: string[], failure: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: folder,
    env: { NO_COLOR: "1" },
  }).output();
  if (!success) {
    throw new CompileError(`${failure}:\n${new TextDecoder().decode(stderr).trim()}`);
  }
  return new TextDecoder().decode(stdout);
}

function copy(root: string, target: string, path: string): void {
  Deno.mkdirSync(dirname(`${target}/${path}`), { recursive: true });
  Deno.copyFileSync(`${root}/${path}`, `${target}/${path}`);
}

function writeJson(path: string, value: unknown): void {
  Deno.writeTextFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);
}
