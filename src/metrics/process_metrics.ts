/** The process itself: processor time, memory, descriptors, I/O, and the JavaScript heap. */

import { readFileSync } from "node:fs";
import { getHeapStatistics } from "node:v8";
import { ComputedFamily, type FamilyOptions, type Reading } from "./family.ts";
import type { MetricsRegistry } from "./registry.ts";

/** Linux reports process times in this unit to user space on every architecture (`USER_HZ`, time(7)). */
const TICKS_PER_SECOND = 100;

/** Adds the `process_*` families (read from `/proc`, so on Linux only) and the `v8_*` ones. */
export function addProcessMetrics(registry: MetricsRegistry): void {
  const add = (type: "counter" | "gauge", options: FamilyOptions, read: () => Iterable<Reading>) =>
    registry.add(new ComputedFamily(type, options, read));

  add("counter", {
    name: "process_cpu_seconds_total",
    help: "Processor time spent.",
    labels: ["mode"],
  }, () => {
    const fields = statFields();
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the list starts at field 3.
    return fields === undefined ? [] : [
      [["user"], Number(fields[11]) / TICKS_PER_SECOND],
      [["system"], Number(fields[12]) / TICKS_PER_SECOND],
    ];
  });
  add("gauge", {
    name: "process_start_time_seconds",
    help: "When the process started, in seconds since the epoch.",
  }, () => {
    const bootTime = match(readProc("/proc/stat"), /^btime (\d+)$/m);
    const startTicks = statFields()?.[19];
    if (bootTime === undefined || startTicks === undefined) return [];
    return [[[], bootTime + Number(startTicks) / TICKS_PER_SECOND]];
  });
  add("gauge", {
    name: "process_virtual_memory_bytes",
    help: "Address space in use.",
  }, () => statusBytes("VmSize"));
  add("gauge", {
    name: "process_resident_memory_bytes",
    help: "Memory held in RAM.",
  }, () => statusBytes("VmRSS"));
  add("gauge", { name: "process_open_fds", help: "Open file descriptors." }, openDescriptors);
  for (const [suffix, key, help] of IO_COUNTERS) {
    add("counter", { name: `process_io_${suffix}_total`, help }, () => {
      const value = match(readProc("/proc/self/io"), new RegExp(`^${key}: (\\d+)$`, "m"));
      return value === undefined ? [] : [[[], value]];
    });
  }
  const heap = (name: string, help: string, key: keyof ReturnType<typeof getHeapStatistics>) =>
    add("gauge", { name, help }, () => [[[], getHeapStatistics()[key]]]);
  heap("v8_heap_used_bytes", "JavaScript heap in use (main thread).", "used_heap_size");
  heap("v8_heap_total_bytes", "JavaScript heap reserved (main thread).", "total_heap_size");
  heap("v8_heap_limit_bytes", "Largest JavaScript heap allowed.", "heap_size_limit");
  heap("v8_external_bytes", "Memory outside the heap that its objects hold.", "external_memory");
}

/** Names as in `/proc/self/io` (proc_pid_io(5)). */
const IO_COUNTERS = [
  ["rchar_bytes", "rchar", "Bytes read through system calls, cached ones included."],
  ["wchar_bytes", "wchar", "Bytes written through system calls, cached ones included."],
  ["syscr", "syscr", "Read system calls."],
  ["syscw", "syscw", "Write system calls."],
  ["read_bytes", "read_bytes", "Bytes read from storage."],
  ["write_bytes", "write_bytes", "Bytes written to storage."],
] as const;

/** Fields of `/proc/self/stat` from the third on: the second, the command, may hold spaces. */
function statFields(): string[] | undefined {
  const stat = readProc("/proc/self/stat");
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function statusBytes(key: string): Reading[] {
  const kibibytes = match(readProc("/proc/self/status"), new RegExp(`^${key}:\\s+(\\d+) kB$`, "m"));
  return kibibytes === undefined ? [] : [[[], kibibytes * 1024]];
}

function openDescriptors(): Reading[] {
  try {
    // The listing itself holds one.
    return [[[], [...Deno.readDirSync("/proc/self/fd")].length - 1]];
  } catch {
    return [];
  }
}

function match(text: string | undefined, pattern: RegExp): number | undefined {
  const found = text?.match(pattern)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** A file of `/proc`, or `undefined` where it does not exist or may not be read. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
