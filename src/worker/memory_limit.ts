/** How much memory this process may have. Linux; nothing is known elsewhere. */

import { readFileSync } from "node:fs";

/** Reads a file of the kernel; `undefined` when it is not there. */
export type ReadFile = (path: string) => string | undefined;

/** The machine's memory, or what the tightest of the control groups around this process allows. */
export function memoryLimitBytes(readFile: ReadFile = readKernelFile): number | undefined {
  const kibibytes = /^MemTotal:\s+(\d+) kB$/m.exec(readFile("/proc/meminfo") ?? "")?.[1];
  const limits = kibibytes === undefined ? [] : [Number(kibibytes) * 1024];
  for (const file of limitFiles(readFile("/proc/self/cgroup") ?? "")) {
    // `max` is no limit, and neither is what the first version has for one: the largest page count.
    const bytes = Number((readFile(file) ?? "").trim() || NaN);
    if (bytes > 0) limits.push(bytes);
  }
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/** Of the groups of `/proc/self/cgroup` (cgroups(7)) and of all above them. */
function* limitFiles(groups: string): Generator<string> {
  for (const line of groups.split("\n")) {
    const [, controllers, group] = line.split(":", 3);
    if (controllers === undefined || group === undefined) continue;
    const isUnified = controllers === "";
    if (!isUnified && !controllers.split(",").includes("memory")) continue;
    const [root, file] = isUnified
      ? ["/sys/fs/cgroup", "memory.max"]
      : [`/sys/fs/cgroup/${controllers}`, "memory.limit_in_bytes"];
    const parts = group.split("/").filter((part) => part !== "" && part !== "..");
    // In a container without a namespace for groups the path is the host's; the root is its own then.
    for (let depth = parts.length; depth >= 0; depth--) {
      yield [root, ...parts.slice(0, depth), file].join("/");
    }
  }
}

function readKernelFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Which of these files exist depends on the kernel and on who mounted what.
    return undefined;
  }
}
