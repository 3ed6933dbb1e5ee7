/**
 * Fails when a folder imports what it may not. Both type and code imports count, static and dynamic.
 * The table below is the layering of the project; its order is topological, so a cycle cannot be
 * written. Changing it is a change to be reviewed on its own.
 *
 *     deno run -A scripts/check_imports.ts
 */

import { pathToFileURL } from "node:url";

/** What each part of the program may import from the others. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "errors.ts": [],
  "log.ts": [],
  "nearest.ts": [],
  "pause.ts": [],
  "stop_signals.ts": [],
  // HTTP to servers of one's own, past every proxy.
  "direct_http.ts": [],
  // Listening where a predecessor still does.
  "busy_address.ts": ["errors.ts", "pause.ts"],
  // Where a compiled program differs from one run from source.
  "standalone.ts": [],
  // A child process's line to the supervisor that started it.
  "parent_link.ts": ["errors.ts", "log.ts"],
  // What containers, pods and units allow this process.
  "control_group.ts": [],
  // The folders of ffi are one part to each other; others may be allowed ffi/libc alone.
  "ffi": [],
  "ffi/libc": [],
  "ffi/native": [],
  "ffi/nvml": [],
  "ffi/pjrt": [],
  "tensor": ["errors.ts"],
  "config": ["errors.ts", "nearest.ts", "standalone.ts"],
  "metrics": ["errors.ts", "log.ts", "pause.ts", "standalone.ts"],
  "transport": ["errors.ts", "log.ts"],
  "protocol": ["tensor", "errors.ts"],
  "bundle": ["ffi/libc", "tensor", "errors.ts", "log.ts", "nearest.ts", "standalone.ts"],
  "client": ["transport", "protocol", "tensor", "ffi/libc", "errors.ts", "log.ts"],
  "scheduler": ["tensor", "config", "metrics", "errors.ts", "log.ts"],
  "runtime": [
    "ffi",
    "ffi/libc",
    "ffi/nvml",
    "ffi/pjrt",
    "bundle",
    "tensor",
    "config",
    "metrics",
    "errors.ts",
    "log.ts",
    "standalone.ts",
  ],
  "gateway": [
    "transport",
    "protocol",
    "metrics",
    "config",
    "busy_address.ts",
    "direct_http.ts",
    "errors.ts",
    "log.ts",
    "parent_link.ts",
    "pause.ts",
    "stop_signals.ts",
  ],
  "supervisor": [
    "config",
    "control_group.ts",
    "errors.ts",
    "log.ts",
    "parent_link.ts",
    "pause.ts",
    "standalone.ts",
    "stop_signals.ts",
  ],
  "worker": [
    "scheduler",
    "runtime",
    "bundle",
    "transport",
    "protocol",
    "metrics",
    "config",
    "tensor",
    "ffi/libc",
    "busy_address.ts",
    "control_group.ts",
    "errors.ts",
    "log.ts",
    "parent_link.ts",
    "standalone.ts",
    "stop_signals.ts",
  ],
  // The load generator: a client of the wire, and a reader of bundles for shapes and goldens.
  "loadgen": [
    "client",
    "bundle",
    "transport",
    "protocol",
    "tensor",
    "config",
    "direct_http.ts",
    "errors.ts",
    "log.ts",
    "pause.ts",
    "standalone.ts",
  ],
  "cli": [
    "worker",
    "gateway",
    "supervisor",
    "client",
    "loadgen",
    // For `bundle validate`, which compiles and runs programs without a worker around them.
    "runtime",
    "bundle",
    "config",
    "tensor",
    "direct_http.ts",
    "errors.ts",
    "log.ts",
    "nearest.ts",
    "parent_link.ts",
    "standalone.ts",
    "stop_signals.ts",
    // For `ctl`, which calls the control services.
    "transport",
    "protocol",
  ],
  "main.ts": ["cli"],
};

/** An import from one file to another. */
export interface Edge {
  readonly from: string;
  readonly to: string;
}

/** What is wrong with an import (paths relative to the repository's root), or `undefined`. */
export function violationOf({ from, to }: Edge): string | undefined {
  const [source, target] = [partOf(from), partOf(to)];
  if (source === undefined || source === target) return undefined;
  // The package's own version is data, not code.
  if (to === "deno.json") return undefined;
  if (target === undefined) {
    const isTestSupport = from.endsWith("_test.ts") && to.startsWith("tests/");
    return isTestSupport ? undefined : `${from} imports ${to}, which is no part of the program`;
  }
  if (from.startsWith("ffi/") && to.startsWith("ffi/")) return undefined;
  if (MAY_IMPORT[source]?.includes(target) !== true) {
    return `${from} imports ${to}, but ${source} may not import ${target}`;
  }
  const isSingleFile = target.endsWith(".ts");
  if (!isSingleFile && !isFrontDoor(to, target)) {
    return `${from} imports ${to}; from outside ${target} import its mod.ts`;
  }
  return undefined;
}

function isFrontDoor(path: string, part: string): boolean {
  return path === `src/${part}/mod.ts` || path === `${part}/mod.ts`;
}

/** The row of the table a file belongs to; `undefined` for files outside the program. */
function partOf(path: string): string | undefined {
  const [top, second, third] = path.split("/");
  switch (top) {
    case "main.ts":
      return top;
    case "src":
      // The test of a file that is a part by itself belongs to that part.
      return second?.replace(/_test\.ts$/, ".ts");
    case "ffi":
      return third === undefined ? "ffi" : `ffi/${second}`;
    default:
      return undefined;
  }
}

/** A file that `deno info` cannot make sense of. */
class UnreadableError extends Error {}

/** Every import between two files of the repository, from `deno info`. */
async function importsOf(root: string, files: readonly string[]): Promise<Edge[]> {
  // One entry that imports everything: `deno info` takes a single one.
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(
      entry,
      files.map((file) => `import "${pathToFileURL(root)}${file}";\n`).join(""),
    );
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", `${root}deno.json`, entry],
    }).output();
    if (!success) throw new UnreadableError(new TextDecoder().decode(stderr));
    const graph = JSON.parse(new TextDecoder().decode(stdout)) as ModuleGraph;
    const edges: Edge[] = [];
    for (const { specifier, error, dependencies = [] } of graph.modules) {
      if (error !== undefined) throw new UnreadableError(`${specifier}: ${error}`);
      const from = relative(root, specifier);
      if (from === undefined) continue;
      for (const { code, type } of dependencies) {
        for (const resolved of [code, type]) {
          if (resolved?.error !== undefined) {
            throw new UnreadableError(`${from}: ${resolved.error}`);
          }
          const to = relative(root, resolved?.specifier);
          if (to !== undefined) edges.push({ from, to });
        }
      }
    }
    return edges;
  } finally {
    await Deno.remove(entry);
  }
}

/** The part of `deno info --json` that matters here. */
interface ModuleGraph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly error?: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier?: string; readonly error?: string };
      readonly type?: { readonly specifier?: string; readonly error?: string };
    }[];
  }[];
}

function relative(root: string, specifier: string | undefined): string | undefined {
  const prefix = pathToFileURL(root).href;
  return specifier?.startsWith(prefix) ? specifier.slice(prefix.length) : undefined;
}

function* sourceFiles(root: string, folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(root + folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sourceFiles(root, path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

async function main(): Promise<number> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    console.error(error.message);
    return 1;
  }
}

async function check(): Promise<number> {
  const root = decodeURIComponent(new URL("..", import.meta.url).pathname);
  const files = ["main.ts", ...sourceFiles(root, "src"), ...sourceFiles(root, "ffi")];
  const unknown = files.filter((file) => !(partOf(file)! in MAY_IMPORT));
  const edges = await importsOf(root, files);
  const violations = new Set(edges.map(violationOf).filter((text) => text !== undefined));
  for (const file of unknown) violations.add(`${file} lies in a folder the table does not know`);
  for (const violation of [...violations].sort()) console.error(violation);
  console.log(`${files.length} files, ${edges.length} imports, ${violations.size} not allowed`);
  return violations.size === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exitCode = await main();
