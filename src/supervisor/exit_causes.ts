/**
 * Why a child ended that could not say it itself: it had no memory, or no thread, because of the machine
 * or of the control groups (a container, a pod, a unit) that it runs in.
 */

import {
  type GroupCounts,
  groupCounts,
  groupMemoryBytes,
  groupTaskLimit,
  memoryLimitBytes,
  type ReadFile,
  readKernelFile,
} from "../control_group.ts";

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number;
  readonly signal: string | null;
}

/** Tells causes by what the kernel has counted since it was last asked. */
export class ExitCauses {
  readonly #readFile: ReadFile;
  #seen: GroupCounts;

  constructor(readFile: ReadFile = readKernelFile) {
    this.#readFile = readFile;
    this.#seen = groupCounts(readFile);
  }

  /** What ended a child, and what helps; `undefined` where nothing is known that it does not log itself. */
  explain(name: string, { code, signal }: ProcessEnd): string | undefined {
    const { oomKills, refusedTasks } = groupCounts(this.#readFile);
    if (signal === "SIGKILL" && oomKills > this.#seen.oomKills) {
      // One death each: another child may have died with it.
      this.#seen = { ...this.#seen, oomKills: this.#seen.oomKills + 1 };
      return `the kernel killed ${name} for want of memory: ${this.#memory()}; serve fewer or smaller models, ` +
        "or fewer workers, if it cannot have more";
    }
    if (code !== 0 && signal !== "SIGKILL" && refusedTasks > this.#seen.refusedTasks) {
      this.#seen = { ...this.#seen, refusedTasks };
      return `${name} ended after it was refused a thread: ${this.#tasks()}`;
    }
    return undefined;
  }

  #memory(): string {
    const bytes = groupMemoryBytes(this.#readFile);
    if (bytes !== undefined) {
      return `the control group allows ${mebibytes(bytes)} (a container's --memory, a pod's ` +
        "resources.limits.memory, a unit's MemoryMax=)";
    }
    const machine = memoryLimitBytes(this.#readFile);
    return machine === undefined
      ? "the machine has no more"
      : `the machine has ${mebibytes(machine)} for everything that runs on it`;
  }

  #tasks(): string {
    const limit = groupTaskLimit(this.#readFile);
    const allowed = limit === undefined ? "no more" : `${limit} processes and threads together`;
    return `the control group allows ${allowed} (a container's --pids-limit, a node's podPidsLimit, a ` +
      "unit's TasksMax=); a worker has some forty threads, and two more for every hook thread";
  }
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 2 ** 20)} MiB`;
}
