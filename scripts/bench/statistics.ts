/** Timings and their summaries. */

/** The value below which `share` of the samples lie (nearest rank). */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]!;
}

/** Part of a usual number of requests, one at least. */
export function partOf(count: number, share: number): number {
  return Math.max(1, Math.round(count * share));
}

/** Times `count` sequential runs, in microseconds each. */
export async function timeEach(count: number, run: () => Promise<unknown>): Promise<number[]> {
  const samples = new Array<number>(count);
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    await run();
    samples[index] = (performance.now() - start) * 1000;
  }
  return samples;
}

/** `123 µs`, three figures at least. */
export function micros(value: number): string {
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} µs`;
}
