/** Putting an example's bundle where `serve` looks. */

import type { Reporter } from "./setup_types.ts";

/**
 * Copies a bundle to `target` unless something is there already. It appears under its name only when
 * complete, so a watcher never sees half of it.
 */
export function installExample(
  source: string,
  target: string,
  report: Reporter,
): void {
  if (exists(target) || !exists(source)) return;
  const folder = target.replace(/[^/]*$/, "");
  Deno.mkdirSync(folder, { recursive: true });
  const partial = Deno.makeTempDirSync({ dir: folder, prefix: ".partial-" });
  try {
    copyFolder(source, partial);
    Deno.chmodSync(partial, 0o755);
    Deno.renameSync(partial, target);
    report.line(`put ${target.slice(folder.length)} into ${folder}`);
  } catch (error) {
    Deno.removeSync(partial, { recursive: true });
    // Another run was faster; its copy is as good.
    if (!exists(target)) throw error;
  }
}

function copyFolder(source: string, target: string): void {
  Deno.mkdirSync(target, { recursive: true });
  for (const entry of Deno.readDirSync(source)) {
    const [from, to] = [`${source}/${entry.name}`, `${target}/${entry.name}`];
    if (entry.isDirectory) copyFolder(from, to);
    else Deno.copyFileSync(from, to);
  }
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
