/** What the load generator and its threads tell each other. */

import type { PreparedRequest } from "./load_model.ts";
import type { Outcome } from "./outcome.ts";
import type { LoadgenSettings } from "./settings.ts";

/** To a thread; `start` comes first, `end` last. */
export type ToThread =
  | {
    readonly type: "start";
    readonly settings: LoadgenSettings;
    readonly requests: readonly PreparedRequest[];
    /** The most requests at once in this thread. */
    readonly inFlight: number;
  }
  | {
    readonly type: "ask";
    readonly id: number;
    /** Index among the requests of `start`. */
    readonly request: number;
    readonly way: number;
    readonly deadlineMs: number;
  }
  /** Gives up everything in flight. */
  | { readonly type: "cut" }
  | { readonly type: "end" };

/** From a thread. */
export type FromThread =
  | { readonly type: "started"; readonly ways: number }
  /** It cannot work with these settings. */
  | { readonly type: "refused"; readonly reason: string }
  | {
    readonly type: "asked";
    readonly id: number;
    readonly outcome: Outcome;
    /** Milliseconds since the epoch: threads have clocks of different beginnings. */
    readonly endEpochMs: number;
    readonly isChecked: boolean;
  }
  /** A mistake of the program. */
  | { readonly type: "failed"; readonly id: number; readonly reason: string }
  | { readonly type: "log"; readonly line: string }
  | { readonly type: "ended" };
