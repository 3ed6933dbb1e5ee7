/**
 * The one interface behind which the scheduling modes live. The proxy asks it where a request goes and
 * tells it how that went; the prober feeds it. A router does no I/O, holds no timer and never sees bytes.
 */

import type { FleetReport, RoutingTable, WorkerId } from "../fleet.ts";

/** Where the rows of a request can be counted without decoding tensors. */
export interface BatchAxis {
  readonly input: string;
  /** Position in the wire shape, counted from 1. */
  readonly axis: number;
}

/** A choice that was made for one request, and the load it stands for. */
export interface Reservation {
  /** The first of `workers`; cheaper than those, which most requests do not need. */
  readonly first: WorkerId;
  /** Workers to try, best first; never empty, no duplicates. */
  readonly workers: readonly WorkerId[];
  /** The try moved on: from now on the load (and the routed counter) counts for this worker. */
  moveTo(worker: WorkerId): void;
  /** Gives the load back; a second call does nothing. */
  release(): void;
}

/** One scheduling mode. */
export interface Router {
  /** Whether it wants `report` called with what the workers say each round. */
  readonly wantsReports: boolean;
  /** Where a model's rows are counted, or `undefined` when a request counts as one. */
  batchAxisOf(model: string): BatchAxis | undefined;
  /** A request for this model came in (known or not). */
  arrived(model: string): void;
  /**
   * Chooses the workers for a request of `items` rows (at least 1) and reserves; `undefined` when no
   * ready worker serves the model. Synchronous: it is on the hot path.
   */
  reserve(model: string, items: number): Reservation | undefined;
  /** Discovery found a new table. Load in flight on workers that stay is kept. */
  discovered(table: RoutingTable): void;
  /** A poll came back. */
  report(report: FleetReport): void;
}
