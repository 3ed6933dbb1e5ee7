/**
 * Fetching a PJRT plugin out of its PyPI wheel: downloaded by pip, checked against pinned digests
 * before anything is used, and put in place by renaming, so that what lies there is always whole.
 */

import { createHash } from "node:crypto";
import { download } from "./setup_pip.ts";
import { type InstallOptions, type PinnedPlugin, SetupError } from "./setup_types.ts";
import { openEntry, readDirectory } from "./setup_zip.ts";

/**
 * The XLA CPU plugin, PJRT C API 0.81, and the header that every struct layout in `ffi` is taken from.
 * The wheel carries no licence file.
 */
export const CPU_PLUGIN: PinnedPlugin = {
  requirement: "xla-cpu-pjrt==0.0.1",
  platform: "manylinux_2_27_x86_64",
  sha256: "55837b6b7b47daa717f2d9a5a03563ea0ceaa338d06a81a1e2d3f060d960decc",
  megabytes: 63,
  files: [
    {
      member: "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
      name: "xla_cpu_pjrt.so",
      sha256: "88c3f28c5900f48ad4a82cab9e79bba9537809743395e341485f8794268820dc",
    },
    {
      member: "xla_plugins/xla_cpu_pjrt/include/pjrt_c_api.h",
      name: "pjrt_c_api.h",
      sha256: "c85bb95cb1743c2a353a555b3ab35f065e5f17007c7f182ad68d23754950235c",
    },
  ],
};

/**
 * Puts a plugin's files into a folder. Returns at once where a former run did so; holds a lock
 * otherwise, so of several runs one downloads and the others wait for it.
 *
 * @throws {SetupError} in one line, with the remedy; nothing half-done is left under a final name
 */
export async function installPlugin(options: InstallOptions): Promise<void> {
  const { folder, plugin, report } = options;
  if (isStamped(folder, plugin)) return;
  await explainingDiskTrouble(folder, async () => {
    makeFolder(folder);
    using lock = Deno.openSync(`${folder}/.lock`, { create: true, write: true });
    if (!await lock.tryLock(true)) {
      report.line("another setup is running; waiting for it");
      await lock.lock(true);
    }
    // Freed when the file closes, also by the death of this process.
    if (isStamped(folder, plugin)) return;
    if (await hasGoodFiles(folder, plugin)) {
      writeStamp(folder, plugin);
      return;
    }
    removeLeftovers(folder);
    requireSupportedHost(options);
    await fetchInto(options);
  });
}

async function fetchInto(options: InstallOptions): Promise<void> {
  const { folder, plugin, report } = options;
  const partial = Deno.makeTempDirSync({ dir: folder, prefix: PARTIAL_PREFIX });
  try {
    const wheel = await download({ ...options, into: partial });
    report.progress(`checking ${plugin.requirement}`);
    const file = Deno.openSync(wheel);
    const found = await sha256(file.readable);
    if (found !== plugin.sha256) {
      throw new SetupError(
        `the wheel of ${plugin.requirement} has SHA-256 ${found}, expected ${plugin.sha256}; ` +
          "it was not used. Is the package index a trustworthy mirror?",
      );
    }
    for (const { member, name, sha256: expected } of plugin.files) {
      report.progress(`unpacking ${name}`);
      const unpacked = await unpack(wheel, member, `${partial}/${name}`);
      if (unpacked !== expected) {
        throw new SetupError(`${name} has SHA-256 ${unpacked}, expected ${expected}`);
      }
    }
    for (const { name } of plugin.files) {
      Deno.renameSync(`${partial}/${name}`, `${folder}/${name}`);
    }
    writeStamp(folder, plugin);
    report.line(`${plugin.requirement} is in ${folder}`);
  } finally {
    Deno.removeSync(partial, { recursive: true });
  }
}

async function unpack(wheel: string, member: string, target: string): Promise<string> {
  using archive = Deno.openSync(wheel);
  const entry = readDirectory(archive).get(member);
  if (entry === undefined) throw new SetupError(`the wheel has no ${member}`);
  using output = Deno.openSync(target, { create: true, write: true, mode: 0o755 });
  const hash = createHash("sha256");
  for await (const chunk of openEntry(wheel, entry)) {
    hash.update(chunk);
    for (let at = 0; at < chunk.length;) at += output.writeSync(chunk.subarray(at));
  }
  output.syncDataSync();
  return hash.digest("hex");
}

function requireSupportedHost({ host, plugin }: InstallOptions): void {
  if (host.os === "linux" && host.arch === "x86_64" && host.env !== "musl") return;
  const libc = host.env === undefined ? "" : ` (${host.env})`;
  throw new SetupError(
    `${plugin.requirement} exists for x86_64 Linux with glibc only, this is ` +
      `${host.arch} ${host.os}${libc}; give a PJRT plugin of your own with REACTANT_PJRT_PLUGIN=PATH`,
  );
}

const PARTIAL_PREFIX = ".partial-";

/** What an interrupted run left. Only called with the lock held, so nobody is using it. */
function removeLeftovers(folder: string): void {
  for (const { name } of Deno.readDirSync(folder)) {
    if (name.startsWith(PARTIAL_PREFIX)) Deno.removeSync(`${folder}/${name}`, { recursive: true });
  }
}

/**
 * The stamp says which files were verified, and recognises them by size and time, so that a start does
 * not hash a quarter of a gigabyte each time.
 */
function stampOf(folder: string, plugin: PinnedPlugin): string {
  return plugin.files.map(({ name, sha256 }) => {
    const { size, mtime } = Deno.statSync(`${folder}/${name}`);
    return `${sha256} ${size} ${mtime?.getTime()} ${name}\n`;
  }).join("");
}

function isStamped(folder: string, plugin: PinnedPlugin): boolean {
  try {
    return Deno.readTextFileSync(`${folder}/.verified`) === stampOf(folder, plugin);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function writeStamp(folder: string, plugin: PinnedPlugin): void {
  Deno.writeTextFileSync(`${folder}/.verified.new`, stampOf(folder, plugin));
  Deno.renameSync(`${folder}/.verified.new`, `${folder}/.verified`);
}

async function hasGoodFiles(folder: string, plugin: PinnedPlugin): Promise<boolean> {
  for (const { name, sha256: expected } of plugin.files) {
    try {
      const file = await Deno.open(`${folder}/${name}`);
      if (await sha256(file.readable) !== expected) return false;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }
  return true;
}

async function sha256(stream: ReadableStream<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest("hex");
}

function makeFolder(folder: string): void {
  try {
    Deno.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new SetupError(`${folder} cannot be made: ${(error as Error).message}`);
  }
}

async function explainingDiskTrouble(folder: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOSPC" || code === "EDQUOT") {
      throw new SetupError(`no room left for ${folder}; free about 400 MB and run setup again`);
    }
    if (error instanceof Deno.errors.PermissionDenied || code === "EROFS") {
      throw new SetupError(`${folder} cannot be written: ${(error as Error).message}`);
    }
    throw error;
  }
}
