/** What the hook pool and a hook worker say to each other. Everything from a worker is untrusted. */

import type { NamedTensor } from "../../tensor/mod.ts";

/** Which function of a hook file is called. */
export type HookName = "preprocess" | "postprocess" | "run";

/** What a hook file registers: a regular model's hooks, or a meta model's `run`. */
export type HookKind = "model" | "meta";

/** What the operator lets the hooks of one model reach beyond their own folder. Hooks cannot ask for any. */
export interface HookGrants {
  /** Files and folders, absolute. */
  readonly allowRead: readonly string[];
  /** Hosts, with or without a port. */
  readonly allowNet: readonly string[];
  /** Names of environment variables. */
  readonly allowEnv: readonly string[];
}

/** What a thread needs to know to start. */
export interface HookLoad {
  /** Where the thread's own code is: readable until the hook file runs. */
  readonly codeFolder: string;
  readonly kind: HookKind;
  readonly name: string;
  readonly directory: string;
  readonly source: string;
  /** Bound on its heap, and again on its array buffers. */
  readonly memoryBytes: number;
  /** Bound on evaluating the hook file. */
  readonly loadTimeoutMs: number;
  /** Bound on code that runs outside of any call. */
  readonly callTimeoutMs: number;
  /** Which kinds of thing are granted. */
  readonly grants: { readonly read: boolean; readonly net: boolean; readonly env: boolean };
}

/** Sent once to the sandbox, which hands it on to the thread. */
export interface ToSandbox {
  /** URL of the code that the thread runs. */
  readonly thread: string;
  readonly load: HookLoad;
  /** The thread's end of the way to the pool. */
  readonly port: MessagePort;
}

export type FromSandbox =
  | { readonly type: "started"; readonly thread: number }
  | { readonly type: "ended"; readonly reason: string; readonly isExhausted: boolean };

export type ToHookWorker =
  | {
    readonly type: "call";
    readonly id: number;
    readonly hook: HookName;
    readonly inputs: readonly NamedTensor[];
    /** How long it may take. */
    readonly budgetMs: number;
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
  | { readonly type: "loaded"; readonly preprocess: boolean; readonly postprocess: boolean }
  | { readonly type: "failed"; readonly message: string }
  /** What the thread holds of memory, when that changed by much. */
  | { readonly type: "memory"; readonly heapBytes: number; readonly externalBytes: number }
  /** The thread's memory is used up; what ran is gone. */
  | { readonly type: "exhausted" }
  /** Code that would not end in its time was stopped. */
  | { readonly type: "overrun" }
  /** An error that nobody caught, outside of any call. */
  | { readonly type: "stray"; readonly message: string }
  /** A line for the log. */
  | {
    readonly type: "output";
    readonly level: "debug" | "info" | "warn" | "error";
    readonly text: string;
  }
  | { readonly type: "result"; readonly id: number; readonly outputs: unknown }
  | {
    readonly type: "error";
    readonly id: number;
    readonly message: string;
    /** Whether the hook refused the request as its client's mistake. */
    readonly isRefusal?: boolean;
    /** Whether the hook went well and gave what is no list of tensors. */
    readonly isOutput?: boolean;
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
