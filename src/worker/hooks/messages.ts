/** What the hook pool and a hook worker say to each other. Everything from a worker is untrusted. */

import type { NamedTensor } from "../../tensor/mod.ts";

/** Which function of a hook file is called. */
export type HookName = "preprocess" | "postprocess";

export type ToHookWorker =
  | {
    readonly type: "load";
    readonly name: string;
    readonly directory: string;
    readonly source: string;
  }
  | {
    readonly type: "call";
    readonly id: number;
    readonly hook: HookName;
    readonly inputs: readonly NamedTensor[];
  };

export type FromHookWorker =
  | { readonly type: "loaded"; readonly hooks: readonly string[] }
  | { readonly type: "failed"; readonly message: string }
  | { readonly type: "result"; readonly id: number; readonly outputs: unknown }
  | { readonly type: "error"; readonly id: number; readonly message: string };
