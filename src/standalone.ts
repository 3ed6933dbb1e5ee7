/**
 * The only place that knows how this program was built, where its own files are and how it is started
 * again. There are three kinds: run from source, compiled by `deno compile`, and the portable
 * self-extracting file. No other file of the program asks for `import.meta.url`, `Deno.execPath()` or
 * `Deno.build.standalone`; a test keeps it so.
 */

import manifest from "../deno.json" with { type: "json" };

/** How this program was packaged. */
export type BuildKind = "source" | "compiled" | "portable";

/** What `--version` tells. */
export interface BuildInfo {
  readonly version: string;
  /** Abbreviated, with `-modified` behind it when the sources differed; `unknown` outside of git. */
  readonly commit: string;
  readonly kind: BuildKind;
}

/** A program and its arguments. */
export interface SelfCommand {
  readonly command: string;
  readonly args: string[];
}

/**
 * Files of the program that are opened by path instead of imported, relative to its root. The compile
 * step embeds every one of them; one that is missing here is missing from the packages.
 */
export const ASSETS = [
  "src/loadgen/load_thread.ts",
  "src/worker/hooks/sandbox.ts",
  "src/worker/hooks/hook_worker.ts",
  "src/metrics/page/index.html",
  "src/metrics/page/page.css",
  "src/metrics/page/page.js",
] as const;

/** A file of `ASSETS`. */
export type AssetName = typeof ASSETS[number];

/**
 * Facts that the packaging step writes at the program's root. A checkout has no such file, so its being
 * there is what tells a package from the sources it was made of.
 */
export const BUILD_FILE = "build.json";

/** Set by the portable file's first lines: the absolute path of that file. */
export const PORTABLE_FILE_VARIABLE = "REACTANTSERVER_FILE";

/**
 * Read by the portable file's first lines: flags for V8 instead of `V8_FLAGS`. A compiled program has its
 * own baked in, and nothing changes them.
 */
export const PORTABLE_V8_FLAGS_VARIABLE = "REACTANTSERVER_V8_FLAGS";

/**
 * How V8 is set up. Allocation, of buffers too, up to this many MiB before it looks for garbage in all of the
 * heap: its own choice follows from how small the heap is, after which every tensor of some MiB starts a
 * collection that costs more than moving the tensor does.
 */
export const V8_FLAGS = "--initial-old-space-size=256";

const ROOT = new URL("../", import.meta.url);
const COMMIT_LENGTH = 12;

/** Where the program is and what it runs in; a parameter so that each kind can be tested. */
export interface Surroundings {
  /** The program's root folder. */
  readonly root: URL;
  /** Whether this is the output of `deno compile`. */
  readonly isCompiled: boolean;
  /** The running executable. */
  readonly executable: string;
  /** Value of `PORTABLE_FILE_VARIABLE`. */
  readonly portableFile: string | undefined;
}

/** What this process really runs in. */
export function surroundings(): Surroundings {
  return {
    root: ROOT,
    isCompiled: Deno.build.standalone,
    executable: Deno.execPath(),
    portableFile: Deno.env.get(PORTABLE_FILE_VARIABLE),
  };
}

/** How this program was packaged. */
export function buildKind(place: Surroundings = surroundings()): BuildKind {
  if (place.isCompiled) return "compiled";
  return readBuildFile(place.root) === undefined ? "source" : "portable";
}

/** Version, commit and kind of this program. */
export function buildInfo(place: Surroundings = surroundings()): BuildInfo {
  const commit = readBuildFile(place.root)?.commit ?? checkedOutCommit(place.root) ?? "unknown";
  return { version: manifest.version, commit, kind: buildKind(place) };
}

/**
 * How to start this very program again with `args`, for example as a worker of a supervisor.
 * @param v8Flags when run from source; for the other kinds see `PORTABLE_V8_FLAGS_VARIABLE`
 */
export function selfCommand(
  args: readonly string[],
  place: Surroundings = surroundings(),
  v8Flags: string = V8_FLAGS,
): SelfCommand {
  if (place.isCompiled) return { command: place.executable, args: [...args] };
  if (place.portableFile !== undefined && buildKind(place) === "portable") {
    return { command: place.portableFile, args: [...args] };
  }
  const path = (name: string) => pathOf(new URL(name, place.root));
  return {
    command: place.executable,
    args: [
      "run",
      "--allow-all",
      "--no-prompt",
      "--quiet",
      `--v8-flags=${v8Flags}`,
      ...["--config", path("deno.json")],
      path("main.ts"),
      ...args,
    ],
  };
}

/** Where a file of the program is; in a compiled program inside the executable. */
export function assetUrl(name: AssetName, place: Surroundings = surroundings()): URL {
  return new URL(name, place.root);
}

/**
 * The text of a file of the program.
 * @throws {Deno.errors.NotFound} when the package was built without it
 */
export function readAsset(name: AssetName, place: Surroundings = surroundings()): string {
  return Deno.readTextFileSync(assetUrl(name, place));
}

/** The folder of a file of the program, as a path that a permission can name. */
export function assetFolder(name: AssetName, place: Surroundings = surroundings()): string {
  return pathOf(new URL(".", assetUrl(name, place)));
}

/**
 * Folders where PJRT plugins lie when no path is configured, best first: in a checkout the one that setup
 * fills, else `pjrt` beside the executable and `../lib/reactantserver`. Never below the current folder:
 * whoever can write there must not choose the code that runs.
 */
export function pluginFolders(place: Surroundings = surroundings()): string[] {
  const kind = buildKind(place);
  if (kind === "source") return [pathOf(new URL(".cache/pjrt", place.root))];
  const file = kind === "portable" ? place.portableFile ?? place.executable : place.executable;
  const folder = realPath(file).replace(/\/[^/]*$/, "");
  return [`${folder}/pjrt`, `${folder.replace(/\/[^/]*$/, "")}/lib/reactantserver`];
}

function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    // An executable that was moved away meanwhile; its old place is the best that is known.
    return path;
  }
}

function pathOf(url: URL): string {
  return decodeURIComponent(url.pathname);
}

function readBuildFile(root: URL): { readonly commit?: string } | undefined {
  const text = readIfThere(new URL(BUILD_FILE, root));
  return text === undefined ? undefined : JSON.parse(text);
}

/** The commit of a checkout, without starting git, which may not be installed. */
function checkedOutCommit(root: URL): string | undefined {
  const head = readIfThere(new URL(".git/HEAD", root))?.trim();
  const reference = head?.match(/^ref: (\S+)$/)?.[1];
  const full = reference === undefined ? head : readIfThere(new URL(`.git/${reference}`, root)) ??
    readIfThere(new URL(".git/packed-refs", root))?.split("\n").find((line) =>
      line.endsWith(` ${reference}`)
    );
  return full?.match(/^[0-9a-f]{40,64}\b/)?.[0].slice(0, COMMIT_LENGTH);
}

function readIfThere(url: URL): string | undefined {
  try {
    return Deno.readTextFileSync(url);
  } catch (error) {
    // A `.git` that is a file (a linked worktree) shows as "not a directory".
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}
