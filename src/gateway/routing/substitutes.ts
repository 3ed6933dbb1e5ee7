/** Who stands in for workers that have gone. */

import type { WorkerId } from "../fleet.ts";

/**
 * `count` of these workers (all, if there are fewer), sorted: by the highest hash of model and worker
 * together (rendezvous hashing, Thaler and Ravishankar 1998). Every table gives the same answer while
 * they are there, so weights are loaded once, and the models of one lost worker go to different ones.
 */
export function substitutes(
  model: string,
  workers: readonly WorkerId[],
  count: number,
): readonly WorkerId[] {
  if (count >= workers.length) return workers;
  return workers
    .map((worker) => ({ worker, rank: hash(`${model}\n${worker}`) }))
    .sort((a, b) => b.rank - a.rank || (a.worker < b.worker ? -1 : 1))
    .slice(0, count)
    .map(({ worker }) => worker)
    .sort();
}

/** 32 bits of FNV-1a, with the finalizer of MurmurHash3 to spread what differs in the last letters. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
