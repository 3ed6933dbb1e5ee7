/** How often models are asked for. */

import { fold } from "../routing/work_costs.ts";

/** Requests of one model since the window began. */
export interface ArrivalCounter {
  count: number;
}

/** Where a window is read. */
export interface DemandMoment {
  /** Monotonic. */
  readonly nowSeconds: number;
  /** Compute used by the fleet so far, in device-seconds. */
  readonly fleetCompute: number;
  /** Of the average, in device-seconds of the fleet. */
  readonly halflife: number;
}

/**
 * Arrival rates as an average over the compute that the fleet uses. Requests are counted in a window;
 * `rates` reads it without ending it, so an early repack sees what was counted and loses nothing;
 * `commit` folds it in and begins the next.
 */
export class Demand {
  readonly #counters = new Map<string, ArrivalCounter>();
  readonly #rates = new Map<string, number>();
  #beganAtSeconds: number;
  #beganAtCompute = 0;

  constructor(nowSeconds: number) {
    this.#beganAtSeconds = nowSeconds;
  }

  /** The counter of a model; increment it per request. */
  counterOf(model: string): ArrivalCounter {
    let counter = this.#counters.get(model);
    if (counter === undefined) this.#counters.set(model, counter = { count: 0 });
    return counter;
  }

  /** Compute the fleet used since the window began. */
  windowCompute(fleetCompute: number): number {
    return fleetCompute - this.#beganAtCompute;
  }

  /** Requests per second of every model, the open window included. */
  rates(moment: DemandMoment): Map<string, number> {
    const wall = moment.nowSeconds - this.#beganAtSeconds;
    if (wall <= 0) return new Map(this.#rates);
    const weight = {
      elapsed: this.windowCompute(moment.fleetCompute),
      halflife: moment.halflife,
    };
    return new Map(
      [...this.#counters].map(([model, { count }]) => [
        model,
        fold(this.#rates.get(model), count / wall, weight),
      ]),
    );
  }

  /** As `rates`, and begins a new window. */
  commit(moment: DemandMoment): Map<string, number> {
    const rates = this.rates(moment);
    for (const [model, rate] of rates) this.#rates.set(model, rate);
    for (const counter of this.#counters.values()) counter.count = 0;
    this.#beganAtSeconds = moment.nowSeconds;
    this.#beganAtCompute = moment.fleetCompute;
    return rates;
  }

  /** Forgets a model that is no longer served; its counter must not be used again. */
  forget(model: string): void {
    this.#counters.delete(model);
    this.#rates.delete(model);
  }
}
