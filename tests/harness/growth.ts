/**
 * Tells a leak from an allocator's habits. What is leaked is leaked again in every round of the same work;
 * a heap that grows by a step, a page cache, or a collection that came late is not. So one number after one
 * phase proves nothing either way, and what counts here is whether there are rounds that kept nothing: two of
 * them, since memory of something else that happens to go can hide what one round kept.
 */

import assert from "node:assert/strict";
import v8 from "node:v8";
import vm from "node:vm";

/** Rounds at most: a leak fails all of them, so more only give noise more chances to settle. */
const MAX_ROUNDS = 20;
const FLAT_ROUNDS = 2;

export interface GrowthOptions {
  /** Names what is repeated, for the message: `disconnects`. */
  readonly what: string;
  /** How many of them one round does. */
  readonly perRound: number;
  /** Does one round; everything it opened is closed when it resolves. */
  readonly round: () => Promise<unknown>;
  /** What one of them may leave in JavaScript's heap and buffers, after a collection. */
  readonly heapBytesEach?: number;
  /** What one of them may add to the process's resident memory, where leaks outside the heap show. */
  readonly residentBytesEach?: number;
  /** Off: a round's garbage counts against it too; what lay there before the round never does. */
  readonly isCollected?: boolean;
  /** Rounds to do even when the first ones already show that nothing is kept. */
  readonly minRounds?: number;
}

/** Bytes in use, of the heap with the buffers outside it, and resident in the process. */
export interface MemoryReading {
  readonly heapBytes: number;
  readonly residentBytes: number;
}

/** Collects garbage, then reads. */
export async function readMemory(): Promise<MemoryReading> {
  v8.setFlagsFromString("--expose-gc");
  const collect = vm.runInNewContext("gc") as () => void;
  for (let pass = 0; pass < 3; pass++) {
    collect();
    // Finalizers, and what they let go, have their turn between collections.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return readNow();
}

function readNow(): MemoryReading {
  const { heapUsed, external, rss } = Deno.memoryUsage();
  return { heapBytes: heapUsed + external, residentBytes: rss };
}

/**
 * Repeats rounds until two of them left (almost) nothing behind; the caller has warmed up before.
 * @throws {assert.AssertionError} when rounds go on keeping more than the bound, with each round's growth
 */
export async function assertNoGrowth(options: GrowthOptions): Promise<void> {
  const { what, perRound, round, minRounds = 1, isCollected = true } = options;
  const checks = [
    { name: "heap", key: "heapBytes", each: options.heapBytesEach },
    { name: "resident memory", key: "residentBytes", each: options.residentBytesEach },
  ] as const;
  const grown: Record<string, number[]> = {};
  let last = await readMemory();
  for (let done = 1; done <= MAX_ROUNDS; done++) {
    await round();
    const now = isCollected ? await readMemory() : readNow();
    for (const { key } of checks) (grown[key] ??= []).push(now[key] - last[key]);
    last = isCollected ? now : await readMemory();
    const isFlat = checks.every((check) => flatRounds(grown, check, perRound) >= FLAT_ROUNDS);
    if (isFlat && done >= minRounds) return;
  }
  for (const check of checks) {
    assert.ok(
      flatRounds(grown, check, perRound) >= FLAT_ROUNDS,
      `${check.name}: rounds of ${perRound} ${what} kept more than ${check.each! * perRound} ` +
        `bytes, again and again: ${grown[check.key]!.join(", ")}`,
    );
  }
}

function flatRounds(
  grown: Record<string, number[]>,
  { key, each = Infinity }: { key: string; each: number | undefined },
  perRound: number,
): number {
  return grown[key]!.filter((bytes) => bytes <= each * perRound).length;
}
