/** What the operator should know about a node before it starts. */

import type { ServerConfig } from "../config/mod.ts";

/** One line of the start. */
export interface Note {
  readonly level: "info" | "warn";
  readonly text: string;
}

/** A note that is merely good to know. */
export function info(text: string): Note {
  return { level: "info", text };
}

/** A note that asks for something to be changed. */
export function warning(text: string): Note {
  return { level: "warn", text };
}

/**
 * Every worker of a GPU node keeps its own copy of all weights in host memory, unless they share one.
 */
export function hostMemoryNotes(workers: readonly ServerConfig[]): Note[] {
  const copying = workers.filter(({ runtime }) =>
    runtime.backend === "cuda" && runtime.weightCacheFraction > 0 && !runtime.sharedHostWeights
  );
  if (workers.length < 2 || copying.length === 0) return [];
  return [warning(
    `each of ${workers.length} workers keeps its own copy of the weights in host memory, so they ` +
      `take ${workers.length} times the space; share one copy with shared_host_weights: true and ` +
      'shared_host_weights_mode: "660"',
  )];
}
