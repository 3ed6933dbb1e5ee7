/**
 * The last line against a hook that uses up the machine's memory in one piece of native code, where
 * neither the heap limit nor the accounting of array buffers sees it and the thread cannot be asked. The
 * process is looked at from outside: when it grew by more than a thread may use, the growth is laid at the
 * door of the threads that touched new pages meanwhile, in proportion to their page faults.
 */

import type { KernelThread } from "./kernel_thread.ts";

const PAGE_BYTES = 4096;
/** Between looks; a thread touches some 100 MiB in this time. */
const LOOK_MS = 50;

interface Watched {
  readonly taskPath: string;
  readonly limitBytes: number;
  readonly onExceeded: () => void;
  /** When it was last found innocent. */
  baseFaults: number;
  baseProcessFaults: number;
  baseBytes: number;
}

/** Looks only while there is something to watch. */
export class MemoryWatch {
  readonly #watched = new Set<Watched>();
  #timer: ReturnType<typeof setInterval> | undefined;

  /**
   * Watches a thread.
   * @returns ends the watch
   */
  add({ path }: KernelThread, limitBytes: number, onExceeded: () => void): () => void {
    const entry: Watched = {
      taskPath: path,
      limitBytes,
      onExceeded,
      baseFaults: 0,
      baseProcessFaults: 0,
      baseBytes: 0,
    };
    rebase(entry, residentBytes());
    this.#watched.add(entry);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    return () => {
      this.#watched.delete(entry);
      if (this.#watched.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  #look(): void {
    const bytes = residentBytes();
    for (const entry of this.#watched) {
      // Memory given back lowers the base, so that growth is always seen from the lowest point.
      if (bytes < entry.baseBytes) rebase(entry, bytes);
      const growth = bytes - entry.baseBytes;
      // Its heap and its buffers are bounded on their own, at the limit each.
      if (growth <= 2 * entry.limitBytes) continue;
      const faults = faultsOf(entry.taskPath) - entry.baseFaults;
      const processFaults = faultsOf("/proc/self") - entry.baseProcessFaults;
      if (growth * faults / Math.max(1, processFaults) > 2 * entry.limitBytes) entry.onExceeded();
      else rebase(entry, bytes);
    }
  }
}

function rebase(entry: Watched, bytes: number): void {
  entry.baseBytes = bytes;
  entry.baseFaults = faultsOf(entry.taskPath);
  entry.baseProcessFaults = faultsOf("/proc/self");
}

function residentBytes(): number {
  const [, pages] = Deno.readTextFileSync("/proc/self/statm").split(" ");
  return Number(pages) * PAGE_BYTES;
}

/** Minor page faults so far (proc(5), `stat`, field 10); 0 for a thread that is gone. */
function faultsOf(path: string): number {
  try {
    const stat = Deno.readTextFileSync(`${path}/stat`);
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[7]);
  } catch {
    return 0;
  }
}
