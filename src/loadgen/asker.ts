/** Asking once: sending a request one way and looking at what comes back. */

import { ServerError } from "../errors.ts";
import type { AnswerCheck } from "./answer_check.ts";
import type { PreparedRequest } from "./load_model.ts";
import { type Outcome, outcomeOf } from "./outcome.ts";
import type { Sender, SendLimits } from "./senders.ts";

/** What became of one request. */
export interface Asked {
  readonly outcome: Outcome;
  /** When the answer was there, before anybody looked at it; on the asker's clock, in milliseconds. */
  readonly endMs: number;
  /** Whether the answer was compared with something. */
  readonly isChecked: boolean;
}

/** Whoever sends requests. */
export interface Asker {
  /** How many ways there are to the server. */
  readonly ways: number;
  /** Rejects only for mistakes of this program. */
  ask(request: PreparedRequest, way: number, limits: SendLimits): Promise<Asked>;
}

/** Asks in this thread. */
export class LocalAsker implements Asker {
  readonly #senders: readonly Sender[];
  readonly #check: AnswerCheck;
  readonly #now: () => number;

  constructor({ senders, check, now }: {
    readonly senders: readonly Sender[];
    readonly check: AnswerCheck;
    /** Milliseconds, monotonic. */
    readonly now: () => number;
  }) {
    this.#senders = senders;
    this.#check = check;
    this.#now = now;
  }

  get ways(): number {
    return this.#senders.length;
  }

  async ask(request: PreparedRequest, way: number, limits: SendLimits): Promise<Asked> {
    let endMs: number | undefined;
    try {
      const outputs = await this.#senders[way]!.send(request, limits);
      endMs = this.#now();
      const checkedBefore = this.#check.checked;
      const problem = this.#check.judge(request, outputs);
      return {
        outcome: problem === undefined
          ? { kind: "ok", text: "" }
          : { kind: "wrong", text: `wrong answer: ${problem}` },
        endMs,
        isChecked: this.#check.checked > checkedBefore,
      };
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return { outcome: outcomeOf(error), endMs: endMs ?? this.#now(), isChecked: false };
    }
  }
}
