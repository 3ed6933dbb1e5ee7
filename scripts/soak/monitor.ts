/** Watches a node from outside: its metrics page, its supervisor's entry in /proc, shared memory. */

import { samplesIn, sumsIn } from "../../src/loadgen/scrape.ts";
import { memoryOfFamily, threadsOfFamily } from "./process_memory.ts";

/**
 * One look, as a line of the CSV has it. The first seven are the columns of the soak monitor for GPUs; on CPU workers they mean what
 * stands beside them.
 */
export interface Reading {
  readonly epoch: number;
  readonly iso_time: string;
  /** Weights and what dispatches in progress need: a CPU worker's device is its own memory. */
  readonly gpu_mem_used_mib: number;
  /** Device seconds per second and worker since the last look, in percent. */
  readonly gpu_util_pct: number;
  /** Resident memory of all processes of the node. */
  readonly worker_mem: number;
  /** Processor time of all of them since the last look; 100 is one processor. */
  readonly worker_cpu_pct: number;
  /** Objects in /dev/shm that belong to a server or a load generator. */
  readonly shm_regions: number;
  /** JavaScript heaps in use. */
  readonly heap_mib: number;
  /** Of all processes of the node. */
  readonly open_fds: number;
  /** PJRT handles alive. */
  readonly native_handles: number;
  readonly weight_loads: number;
  readonly weight_evicts: number;
  /** Requests the workers answered, well or not. */
  readonly requests: number;
  /** Refused by workers and gateway. */
  readonly shed: number;
  /** Of `worker_mem`, pages of JavaScript heaps: V8 takes them in steps of up to 24 MiB. */
  readonly heap_pages_mib: number;
  /** Of `worker_mem`, pages of shared memory, counted in each process that touched them: weights, regions. */
  readonly shared_mib: number;
  /** Of `worker_mem`, what CPU workers keep for weights, in use or not: their device's memory. */
  readonly pool_mib: number;
  /** What V8 has taken for the heaps of hook threads. */
  readonly hook_heap_mib: number;
  /** Of all processes of the node. */
  readonly threads: number;
}

/** A look with what no line of the CSV has room for. */
export interface Look extends Reading {
  /**
   * JavaScript heap of each process, in MiB, by the labels of its series: heaps are emptied at different times,
   * and the least of their sum is not the sum of what each of them keeps.
   */
  readonly heaps: ReadonlyMap<string, number>;
}

export const COLUMNS = [
  "epoch",
  "iso_time",
  "gpu_mem_used_mib",
  "gpu_util_pct",
  "worker_mem",
  "worker_cpu_pct",
  "shm_regions",
  "heap_mib",
  "open_fds",
  "native_handles",
  "weight_loads",
  "weight_evicts",
  "requests",
  "shed",
  "heap_pages_mib",
  "shared_mib",
  "pool_mib",
  "hook_heap_mib",
  "threads",
] as const satisfies readonly (keyof Reading)[];

/** What a monitor watches. */
export interface Watched {
  /** Of the public HTTP port. */
  readonly httpPort: number;
  readonly supervisorPid: number;
  readonly workers: number;
  /** Processes whose series the page has: workers, and the gateway where there is one. */
  readonly processes: number;
}

const FAMILIES = [
  "worker_device_memory_in_use_bytes",
  "worker_resident_weight_bytes",
  "worker_compute_seconds_total",
  "worker_native_handles",
  "worker_weight_loads_total",
  "worker_weight_evicts_total",
  "worker_requests_total",
  "worker_requests_shed_total",
  "gateway_requests_shed_total",
  "process_cpu_seconds_total",
  "process_open_fds",
  "worker_device_memory_pool_bytes",
  "worker_hook_heap_bytes",
] as const;

const HEAP = "v8_heap_used_bytes";
const RESIDENT = "process_resident_memory_bytes";

const MIB = 2 ** 20;
/** `USER_HZ` (time(7)). */
const TICKS_PER_SECOND = 100;

/** Looks at a node again and again; rates are between two looks. */
export class Monitor {
  readonly #watched: Watched;
  #last: { atMs: number; computeSeconds: number; cpuSeconds: number } | undefined;

  constructor(watched: Watched) {
    this.#watched = watched;
  }

  /** One look; `undefined` while the page cannot be read, or lacks a process: sums without it mean nothing. */
  async look(): Promise<Look | undefined> {
    const { httpPort, supervisorPid, workers, processes } = this.#watched;
    const page = await fetchPage(`http://127.0.0.1:${httpPort}/metrics`);
    if (page === undefined) return undefined;
    if ([...samplesIn(page, new Set([RESIDENT]))].length < processes) return undefined;
    const heaps = new Map(
      Array.from(samplesIn(page, new Set([HEAP])), ({ labels, value }) => [labels, value / MIB]),
    );
    const sums = sumsIn(page, FAMILIES);
    const sum = (family: (typeof FAMILIES)[number]) => sums.get(family)!;
    const supervisor = processFigures(supervisorPid);
    const memory = memoryOfFamily(supervisorPid);
    const now = {
      atMs: performance.now(),
      computeSeconds: sum("worker_compute_seconds_total"),
      cpuSeconds: sum("process_cpu_seconds_total") + supervisor.cpuSeconds,
    };
    const last = this.#last ?? now;
    this.#last = now;
    const seconds = Math.max(1e-3, (now.atMs - last.atMs) / 1000);
    const rate = (key: "computeSeconds" | "cpuSeconds") =>
      Math.max(0, 100 * (now[key] - last[key]) / seconds);
    const time = new Date();
    return {
      epoch: Math.round(time.getTime() / 1000),
      iso_time: time.toISOString(),
      gpu_mem_used_mib: Math.max(
        sum("worker_device_memory_in_use_bytes"),
        // All that is known of a device that keeps no account.
        sum("worker_resident_weight_bytes"),
      ) / MIB,
      gpu_util_pct: rate("computeSeconds") / workers,
      worker_mem: memory.residentBytes / MIB,
      worker_cpu_pct: rate("cpuSeconds"),
      shm_regions: sharedMemoryObjects(),
      heap_mib: [...heaps.values()].reduce((total, value) => total + value, 0),
      heaps,
      open_fds: sum("process_open_fds") + supervisor.descriptors,
      native_handles: sum("worker_native_handles"),
      weight_loads: sum("worker_weight_loads_total"),
      weight_evicts: sum("worker_weight_evicts_total"),
      requests: sum("worker_requests_total"),
      shed: sum("worker_requests_shed_total") +
        sum("gateway_requests_shed_total"),
      heap_pages_mib: memory.heapPageBytes / MIB,
      shared_mib: memory.sharedBytes / MIB,
      pool_mib: sum("worker_device_memory_pool_bytes") / MIB,
      hook_heap_mib: sum("worker_hook_heap_bytes") / MIB,
      threads: threadsOfFamily(supervisorPid),
    };
  }
}

/** A reading as a line of CSV; whole numbers as they are, others with one decimal. */
export function csvLine(reading: Reading): string {
  return COLUMNS.map((column) => {
    const value = reading[column];
    return typeof value === "string" || Number.isInteger(value) ? String(value) : value.toFixed(1);
  }).join(",");
}

/** `undefined` when it does not come within 5 s. */
async function fetchPage(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
    const text = await response.text();
    return response.ok ? text : undefined;
  } catch {
    return undefined;
  }
}

function processFigures(pid: number) {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // Fields 14 and 15 of proc_pid_stat(5); what follows the name begins with field 3.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      descriptors: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
    };
  } catch {
    return { cpuSeconds: 0, descriptors: 0 };
  }
}

function sharedMemoryObjects(): number {
  try {
    return [...Deno.readDirSync("/dev/shm")].filter(({ name }) =>
      /^(shm-loadgen-|reactant)/.test(name)
    ).length;
  } catch {
    return 0;
  }
}
