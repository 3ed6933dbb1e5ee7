/** What a simulated fleet is asked for: models of different cost and size, Zipf popularity, drift. */

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32, Tommy Ettinger, public domain). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One model of the fleet. */
export interface SimulatedModel {
  readonly name: string;
  /** Device-seconds of a dispatch: fixed, plus this for every row. */
  readonly dispatchSeconds: number;
  readonly rowSeconds: number;
  readonly maxBatchSize: number;
  readonly weightBytes: number;
}

/** Models whose costs and sizes lie within a factor of 30, evenly by their logarithm. */
export function makeModels(count: number, random: () => number): SimulatedModel[] {
  const between = (low: number, high: number) => low * (high / low) ** random();
  return Array.from({ length: count }, (_, index) => ({
    name: `model${String(index).padStart(4, "0")}`,
    dispatchSeconds: between(0.001, 0.004),
    rowSeconds: between(0.0002, 0.003),
    maxBatchSize: 2 ** (2 + Math.floor(random() * 4)),
    weightBytes: Math.round(between(0.1e9, 3e9)),
  }));
}

/**
 * Which model is asked for next. Popularity is Zipf's law over ranks; drift exchanges ranks, hot ones as
 * often as cold ones by order of magnitude, so that the head of the distribution really changes.
 */
export class Popularity {
  readonly #rankToModel: number[];
  readonly #cumulative: number[] = [];
  readonly #random: () => number;

  constructor(models: number, exponent: number, random: () => number) {
    this.#random = random;
    this.#rankToModel = Array.from({ length: models }, (_, index) => index);
    for (let index = models - 1; index > 0; index--) this.#swap(index, this.#below(index + 1));
    let sum = 0;
    for (let rank = 1; rank <= models; rank++) this.#cumulative.push(sum += rank ** -exponent);
  }

  /** Index of a model. */
  next(): number {
    const target = this.#random() * this.#cumulative.at(-1)!;
    let low = 0;
    let high = this.#cumulative.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#cumulative[middle]! < target) low = middle + 1;
      else high = middle;
    }
    return this.#rankToModel[low]!;
  }

  /** Exchanges so many pairs of ranks. */
  drift(swaps: number): void {
    const count = this.#rankToModel.length;
    for (let swap = 0; swap < swaps; swap++) {
      this.#swap(Math.floor(count ** this.#random()) - 1, this.#below(count));
    }
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #swap(a: number, b: number): void {
    const model = this.#rankToModel[a]!;
    this.#rankToModel[a] = this.#rankToModel[b]!;
    this.#rankToModel[b] = model;
  }
}
