/**
 * The control groups around this process (cgroups(7)): what they allow, and what they have refused. A
 * container, a pod and a systemd unit are such groups. Linux, both versions; elsewhere nothing is known.
 */

import { readFileSync } from "node:fs";

/** Reads a file of the kernel; `undefined` when it is not there. */
export type ReadFile = (path: string) => string | undefined;

/** Controllers this program asks about. */
export type Controller = "cpu" | "memory" | "pids";

/** One group as far as one controller is concerned. */
export interface ControlGroup {
  /** Where the kernel shows its files. */
  readonly folder: string;
  /** Whether it is of the second version, whose files have other names. */
  readonly isUnified: boolean;
}

/** What the groups have had to do to processes, counted since they were made. */
export interface GroupCounts {
  /** Processes of this group that were killed for want of memory, whoever's limit it was. */
  readonly oomKills: number;
  /** Processes and threads that were refused because there were too many. */
  readonly refusedTasks: number;
}

/** The group of this process and all above it that can be seen, innermost first. */
export function* controlGroups(
  controller: Controller,
  readFile: ReadFile = readKernelFile,
): Generator<ControlGroup> {
  for (const line of (readFile("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, group] = line.split(":", 3);
    if (controllers === undefined || group === undefined) continue;
    const isUnified = controllers === "";
    if (!isUnified && !controllers.split(",").includes(controller)) continue;
    const root = isUnified ? "/sys/fs/cgroup" : `/sys/fs/cgroup/${controllers}`;
    const parts = group.split("/").filter((part) => part !== "" && part !== "..");
    // In a container without a namespace for groups the path is the host's; the root is its own then.
    for (let depth = parts.length; depth >= 0; depth--) {
      yield { folder: [root, ...parts.slice(0, depth)].join("/"), isUnified };
    }
  }
}

/** Bytes that the tightest of the groups allows; `undefined` where none allows less than the machine has. */
export function groupMemoryBytes(readFile: ReadFile = readKernelFile): number | undefined {
  const tightest = tightestMemoryGroup(readFile);
  if (tightest === undefined) return undefined;
  return tightest.bytes < (machineMemoryBytes(readFile) ?? Infinity) ? tightest.bytes : undefined;
}

/** The machine's memory, or what the tightest of the groups allows. */
export function memoryLimitBytes(readFile: ReadFile = readKernelFile): number | undefined {
  return groupMemoryBytes(readFile) ?? machineMemoryBytes(readFile);
}

/**
 * What the group with the tightest limit has in use and cannot give back: not the pages of files and what
 * the kernel remembers of their names, which it drops before it kills anyone. Shared memory is in use.
 */
export function groupMemoryUsed(readFile: ReadFile = readKernelFile): number | undefined {
  const group = tightestMemoryGroup(readFile);
  if (group === undefined) return undefined;
  const { folder, isUnified } = group;
  const usage = numberOf(
    readFile(`${folder}/${isUnified ? "memory.current" : "memory.usage_in_bytes"}`),
  );
  const stat = readFile(`${folder}/memory.stat`) ?? "";
  const [file, shared] = isUnified ? ["file", "shmem"] : ["total_cache", "total_shmem"];
  const reclaimable = Math.max(0, (keyed(stat, file!) ?? 0) - (keyed(stat, shared!) ?? 0)) +
    (keyed(stat, "slab_reclaimable") ?? 0);
  return usage === undefined ? undefined : Math.max(0, usage - reclaimable);
}

/** Processes and threads that the tightest of the groups allows. */
export function groupTaskLimit(readFile: ReadFile = readKernelFile): number | undefined {
  const limits = Array.from(
    controlGroups("pids", readFile),
    ({ folder }) => numberOf(readFile(`${folder}/pids.max`)),
  ).filter((limit) => limit !== undefined);
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/** What has happened in the groups so far; 0 where they do not count it. */
export function groupCounts(readFile: ReadFile = readKernelFile): GroupCounts {
  // Of the first group that is there; those above it count what happens to others too.
  const count = (controller: Controller, fileOf: (group: ControlGroup) => string, key: string) => {
    for (const group of controlGroups(controller, readFile)) {
      const value = keyed(readFile(`${group.folder}/${fileOf(group)}`) ?? "", key);
      if (value !== undefined) return value;
    }
    return 0;
  };
  return {
    oomKills: count(
      "memory",
      ({ isUnified }) => isUnified ? "memory.events" : "memory.oom_control",
      "oom_kill",
    ),
    refusedTasks: count("pids", () => "pids.events", "max"),
  };
}

/** Reads what may not be there: that depends on the kernel and on who mounted what. */
export function readKernelFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Nothing is known then, which every caller can do with.
    return undefined;
  }
}

function tightestMemoryGroup(readFile: ReadFile): (ControlGroup & { bytes: number }) | undefined {
  let tightest: (ControlGroup & { bytes: number }) | undefined;
  for (const group of controlGroups("memory", readFile)) {
    const file = group.isUnified ? "memory.max" : "memory.limit_in_bytes";
    // `max` is no limit, and neither is what the first version has for one: the largest page count.
    const bytes = numberOf(readFile(`${group.folder}/${file}`));
    if (bytes !== undefined && bytes < (tightest?.bytes ?? Infinity)) {
      tightest = { ...group, bytes };
    }
  }
  return tightest;
}

function machineMemoryBytes(readFile: ReadFile): number | undefined {
  const kibibytes = /^MemTotal:\s+(\d+) kB$/m.exec(readFile("/proc/meminfo") ?? "")?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** A positive number, alone in its file. */
function numberOf(text: string | undefined): number | undefined {
  const value = Number((text ?? "").trim() || NaN);
  return value > 0 ? value : undefined;
}

/** The value behind a key, in a file with a line for each. */
function keyed(text: string, key: string): number | undefined {
  const value = new RegExp(`^${key} (\\d+)$`, "m").exec(text)?.[1];
  return value === undefined ? undefined : Number(value);
}
