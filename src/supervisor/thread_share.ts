/** How the processors of a node are divided among its workers. */

/** More threads than this do not make one model's programs faster. */
const MAX_SHARE = 16;

/** Compute threads per worker: an equal share of the processors, from 1 to 16. */
export function threadShare(processors: number, workers: number): number {
  return Math.min(Math.max(Math.floor(processors / workers), 1), MAX_SHARE);
}

/**
 * The processors of worker `index` of `workers`: as many as it has threads, from its own part of the
 * list. Parts are disjoint whenever there are processors enough for that.
 */
export function coreSlice(
  processors: readonly number[],
  { index, workers, threads }: {
    readonly index: number;
    readonly workers: number;
    readonly threads: number;
  },
): number[] {
  const start = Math.floor((index * processors.length) / workers);
  const count = Math.min(threads, processors.length);
  const slice = Array.from(
    { length: count },
    (_, step) => processors[(start + step) % processors.length]!,
  );
  return slice.sort((a, b) => a - b);
}
