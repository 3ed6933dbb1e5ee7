/** What the hook pool and a hook worker say to each other. Everything from a worker is untrusted. */

import type { NamedTensor } from "../../tensor/mod.ts";

/** Which function of a hook file is called. */
export type HookName = "preprocess" | "postprocess" | "run";

/** What a hook file registers: a regular model's hooks, or a meta model's `run`. */
export type HookKind = "model" | "meta";

export type ToHookWorker =
  | {
    readonly type: "load";
    readonly kind: HookKind;
    readonly name: string;
    readonly directory: string;
    readonly source: string;
  }
  | {
    readonly type: "call";
    readonly id: number;
    readonly hook: HookName;
    readonly inputs: readonly NamedTensor[];
  }
  /** The answer to a `subcall` or `scratch` of the call `id`. */
  | {
    readonly type: "answer";
    readonly id: number;
    readonly sequence: number;
    readonly outputs?: readonly NamedTensor[];
    readonly buffer?: SharedArrayBuffer;
    readonly error?: string;
  };

export type FromHookWorker =
  | { readonly type: "loaded"; readonly hooks: readonly string[] }
  | { readonly type: "failed"; readonly message: string }
  | { readonly type: "result"; readonly id: number; readonly outputs: unknown }
  | {
    readonly type: "error";
    readonly id: number;
    readonly message: string;
    /** The request of this call whose failure the hook let through, if that is what ended it. */
    readonly sequence?: number;
  }
  /** `run` calls another model. */
  | {
    readonly type: "subcall";
    readonly id: number;
    readonly sequence: number;
    readonly model: unknown;
    readonly inputs: unknown;
  }
  /** `run` asks for working memory. */
  | {
    readonly type: "scratch";
    readonly id: number;
    readonly sequence: number;
    readonly bytes: unknown;
  };
