/**
 * Prometheus's own `promtool`: the one on the PATH, or taken out of Debian's package into `.cache` without
 * installing anything. Building it with Go would take longer than all tests together.
 */

import { fileURLToPath } from "node:url";

const cached = fileURLToPath(new URL("../../.cache/promtool/", import.meta.url));

/** Its path, or `undefined` where it cannot be had. */
export async function findPromtool(): Promise<string | undefined> {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), `${cached}usr/bin`];
  const find = () => folders.map((folder) => `${folder}/promtool`).find(isThere);
  return find() ?? (await unpack() ? find() : undefined);
}

async function unpack(): Promise<boolean> {
  const folder = await Deno.makeTempDir();
  try {
    if (!await run("apt-get", ["-qq", "download", "prometheus"], folder)) return false;
    const archive = [...Deno.readDirSync(folder)].find(({ name }) => name.endsWith(".deb"));
    if (archive === undefined) return false;
    await Deno.mkdir(cached, { recursive: true });
    return await run("dpkg", ["-x", archive.name, cached], folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function run(command: string, args: readonly string[], cwd: string): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(command, {
      args: [...args],
      cwd,
      stdout: "null",
      stderr: "null",
      signal: AbortSignal.timeout(120_000),
    }).output();
    return success;
  } catch {
    // No such command: not a Debian system.
    return false;
  }
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
