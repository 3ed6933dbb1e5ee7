/** What a discipline sees: plain data, so that a decision can be tested and replayed from a trace. */

/** One model with queued work. */
export interface Candidate {
  readonly name: string;
  /** Arrival number of the front request: smaller is older. */
  readonly frontOrder: number;
  /** Earliest deadline among everything queued, monotonic milliseconds; Infinity: none. */
  readonly earliestDeadline: number;
  /** Share weight of the model. */
  readonly weight: number;
  /** Recent compute in seconds, decayed to now. */
  readonly recentCompute: number;
  /** Learned seconds of the dispatch planned for the model now, or the default before any was run. */
  readonly plannedCost: number;
  /** Rows of that dispatch, without padding. */
  readonly plannedRows: number;
  /** Whether several requests share it. */
  readonly isCoalesced: boolean;
}

export interface DisciplineParameters {
  readonly recencyPenaltyCap: number;
  readonly coalescingDiscount: number;
}

/** Picks the model to dispatch next; `candidates` is never empty. */
export type Discipline = (
  candidates: readonly Candidate[],
  parameters: DisciplineParameters,
) => Candidate;

/** The older front request first, then the smaller name: how every discipline breaks ties. */
export function isOlder(a: Candidate, b: Candidate): boolean {
  return a.frontOrder !== b.frontOrder ? a.frontOrder < b.frontOrder : a.name < b.name;
}
