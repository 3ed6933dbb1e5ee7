/** What the series of workers and of the gateway have in common. */

/** The `model` label of requests for names that are no model, however many there are. */
export const UNKNOWN_MODEL = "_unknown";

/** Upper bounds of request latencies, in seconds: 0.001 · 2^k for k = 0…13. */
export const LATENCY_BOUNDS: readonly number[] = Array.from(
  { length: 14 },
  (_, k) => Number((0.001 * 2 ** k).toPrecision(6)),
);
