/** Which request is next. */

import type { PreparedRequest } from "./load_model.ts";
import type { Random } from "./random.ts";

/** A model's requests and its weight. */
export interface Choice {
  readonly weight: number;
  /** Never empty. */
  readonly requests: readonly PreparedRequest[];
}

export interface PickerOptions {
  /** Never empty. */
  readonly choices: readonly Choice[];
  /** Every n-th model is the next one in turn, so that rare ones are not forgotten; 0: none is. */
  readonly sweepEvery: number;
  /** Requests of one model in a row. */
  readonly burst: number;
  readonly random: Random;
}

/** Draws models by weight, then one of the model's requests evenly. */
export class Picker {
  readonly #options: PickerOptions;
  readonly #total: number;
  #picks = 0;
  #turn = 0;
  #current: Choice;
  #left = 0;

  constructor(options: PickerOptions) {
    this.#options = options;
    this.#total = options.choices.reduce((sum, { weight }) => sum + weight, 0);
    this.#current = options.choices[0]!;
  }

  next(): PreparedRequest {
    if (this.#left === 0) {
      this.#current = this.#choose();
      this.#left = this.#options.burst;
    }
    this.#left--;
    const { requests } = this.#current;
    return requests.length === 1
      ? requests[0]!
      : requests[this.#options.random.below(requests.length)]!;
  }

  #choose(): Choice {
    const { choices, sweepEvery, random } = this.#options;
    this.#picks++;
    if (sweepEvery > 0 && this.#picks % sweepEvery === 0) {
      return choices[this.#turn++ % choices.length]!;
    }
    let at = random.next() * this.#total;
    for (const choice of choices) if ((at -= choice.weight) < 0) return choice;
    return choices.at(-1)!;
  }
}
