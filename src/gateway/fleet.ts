/**
 * What the gateway knows of its workers, as plain data: the prober fills it in, routing and packing
 * read it. Nothing here does I/O, so a fleet can be simulated.
 */

/** A worker's gRPC address, `host:port`; its identity everywhere inside the gateway. */
export type WorkerId = string;

/** One model as one worker reported it (`ModelControlStatus`). Counters grow until the worker restarts. */
export interface ModelReport {
  readonly name: string;
  readonly weightBytes: number;
  readonly computeSeconds: number;
  readonly requests: number;
  readonly rows: number;
  /** Largest compiled batch; 0 when unknown or unbatched. */
  readonly maxBatchSize: number;
  /** Input that carries the batch axis; empty when none does. */
  readonly batchInput: string;
  /** Position of the batch axis in the wire shape, counted from 1; 0 when there is none. */
  readonly batchAxis: number;
}

/** One worker's answer to a poll. */
export interface WorkerReport {
  readonly worker: WorkerId;
  /** `fair`, `fifo` or `edf`. */
  readonly discipline: string;
  readonly models: readonly ModelReport[];
  /** Weight memory the worker may fill, in bytes; 0: unconstrained. */
  readonly weightBudgetBytes: number;
}

/** One round of polling, in no particular order; workers that did not answer are absent. */
export interface FleetReport {
  readonly workers: readonly WorkerReport[];
  /** Monotonic time of the round. */
  readonly atSeconds: number;
}

/** Which ready workers serve which model, as the last discovery found it. Swapped whole, never edited. */
export interface RoutingTable {
  /** Workers by model, sorted. */
  readonly routes: ReadonlyMap<string, readonly WorkerId[]>;
  /** Workers that were ready, sorted. */
  readonly ready: readonly WorkerId[];
}
