/** What a process has in memory, by who asked for it, as the kernel lists its mappings. */

/** Resident bytes of one process, or of several together. */
export interface ProcessMemory {
  readonly residentBytes: number;
  /** Of these, pages of JavaScript heaps, whichever thread they belong to. */
  readonly heapPageBytes: number;
  /** Of these, pages of shared memory. Each process that touched them counts them. */
  readonly sharedBytes: number;
}

/**
 * V8 asks for its pages at random addresses below this (`GetRandomMmapAddr`, src/base/platform/platform-posix.cc,
 * on 64-bit processors); the kernel gives addresses near the top to all who ask for none.
 */
const HEAP_PAGES_BELOW = 2 ** 46;

const HEADER = /^([0-9a-f]+)-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)$/;
const RESIDENT = /^Rss: +(\d+) kB$/;

/** Sorts what `/proc/PID/smaps` lists (proc_pid_smaps(5)). */
export function sortMappings(smaps: string): ProcessMemory {
  let [residentBytes, heapPageBytes, sharedBytes] = [0, 0, 0];
  let isHeap = false;
  let isShared = false;
  for (const line of smaps.split("\n")) {
    const resident = RESIDENT.exec(line);
    if (resident) {
      const bytes = Number(resident[1]) * 1024;
      residentBytes += bytes;
      if (isShared) sharedBytes += bytes;
      else if (isHeap) heapPageBytes += bytes;
      continue;
    }
    const header = HEADER.exec(line);
    if (!header) continue;
    const [, start, permissions, name] = header;
    isShared = permissions![3] === "s" || /^\/(dev\/shm|memfd:)/.test(name!);
    isHeap = name === "" && Number(`0x${start}`) < HEAP_PAGES_BELOW;
  }
  return { residentBytes, heapPageBytes, sharedBytes };
}

/** One process and all that it started. Those that end meanwhile count as nothing. */
export function memoryOfFamily(pid: number): ProcessMemory {
  let [residentBytes, heapPageBytes, sharedBytes] = [0, 0, 0];
  for (const member of [pid, ...childrenOf(pid)]) {
    const memory = sortMappings(readProc(`/proc/${member}/smaps`));
    residentBytes += memory.residentBytes;
    heapPageBytes += memory.heapPageBytes;
    sharedBytes += memory.sharedBytes;
  }
  return { residentBytes, heapPageBytes, sharedBytes };
}

/** Threads of one process and of all that it started. */
export function threadsOfFamily(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, member) => {
    const threads = /^Threads:\s*(\d+)/m.exec(readProc(`/proc/${member}/status`))?.[1];
    return sum + Number(threads ?? 0);
  }, 0);
}

function childrenOf(pid: number): number[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
    if (!/^\d+$/.test(name)) return [];
    const parent = /^PPid:\s*(\d+)/m.exec(readProc(`/proc/${name}/status`))?.[1];
    return Number(parent) === pid ? [Number(name)] : [];
  });
}

/** Empty when the process has ended. */
function readProc(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
