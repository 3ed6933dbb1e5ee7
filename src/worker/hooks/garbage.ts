/**
 * Keeps a thread's heap near what is alive in it. V8 looks through the whole of a heap only once it has
 * grown by much, which `V8_FLAGS` puts off further for the sake of large tensors. A server has one main
 * heap, but as many others as it has hook threads, and what the calls of months left in each would add up.
 */

/** Garbage that is not worth a collection, at least. */
const LEAST_BYTES = 2 * 2 ** 20;
/** The same as a part of what is alive: looking through a large heap takes longer. */
const LEAST_SHARE = 0.25;
/** Between collections, at least. One holds up the thread for about a millisecond per MiB that is alive. */
const PAUSE_MS = 10_000;
/** The same for each byte alive, so that collections stay a thousandth of the time. */
const PAUSE_MS_PER_BYTE = 1000 / 2 ** 20;

export interface GarbageOptions {
  /** Bytes of the heap that are in use, garbage included. */
  readonly usedBytes: () => number;
  /** Looks through the whole heap, at once. */
  readonly collect: () => void;
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number;
}

/**
 * What is in use at the time of the call is taken to be alive.
 * @returns to be called between calls, as often as one likes: collects where it is worth it
 */
export function keepHeapSmall({ usedBytes, collect, now }: GarbageOptions): () => void {
  const worthwhile = (alive: number) => alive + Math.max(LEAST_BYTES, LEAST_SHARE * alive);
  let limit = worthwhile(usedBytes());
  let earliestMs = now();
  return () => {
    if (usedBytes() < limit || now() < earliestMs) return;
    collect();
    const alive = usedBytes();
    limit = worthwhile(alive);
    earliestMs = now() + Math.max(PAUSE_MS, PAUSE_MS_PER_BYTE * alive);
  };
}
