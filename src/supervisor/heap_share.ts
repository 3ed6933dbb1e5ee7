/**
 * How the children's JavaScript engines are told what memory there is. By themselves they go by the
 * machine's, and see no reason to collect garbage before a container's limit has them killed.
 */

import { PORTABLE_V8_FLAGS_VARIABLE, V8_FLAGS } from "../standalone.ts";

/** Part of a child's share that may be garbage before V8 looks through all of its heap. */
const GARBAGE_PART = 8;
/** MiB. Less only makes V8 busy. */
const LEAST_GARBAGE = 16;
/** MiB. What `V8_FLAGS` has. */
const MOST_GARBAGE = 256;

/** What children are started with. */
export interface HeapSettings {
  /** On the command line. */
  readonly v8Flags: string;
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * For every child of a node.
 * @param limitBytes what the control group allows; `undefined`: nothing is bounded
 * @param children how many share that
 */
export function heapSettings(limitBytes: number | undefined, children: number): HeapSettings {
  // Deno gives a heap half of the control group's limit at most (denoland/deno#29078).
  const environment = { DENO_USE_CGROUPS: "1" };
  const share = (limitBytes ?? Infinity) / Math.max(1, children) / 2 ** 20;
  const garbage = Math.max(LEAST_GARBAGE, Math.floor(share / GARBAGE_PART));
  if (garbage >= MOST_GARBAGE) return { v8Flags: V8_FLAGS, environment };
  const v8Flags = `--initial-old-space-size=${garbage}`;
  return { v8Flags, environment: { ...environment, [PORTABLE_V8_FLAGS_VARIABLE]: v8Flags } };
}
