/// <reference path="./helpers/api.d.ts" />
/**
 * What a bundle's `model.ts` may use, with `helpers`. Copy this file and the one it refers to beside a hook
 * for editor support. Besides the language itself there are timers, `console` (a few lines a second, to
 * the server's log), `performance.now`, `crypto.getRandomValues` and `randomUUID`, `TextEncoder`,
 * `TextDecoder`, `URL`, `AbortController`, `structuredClone`, `atob` and `btoa`. Nothing can be imported
 * and nothing else is within reach, WebAssembly, `FinalizationRegistry` and `Atomics.waitAsync` included;
 * `Promise` cannot be patched. What the operator grants a model appears as `Deno.readTextFile` and its
 * kin, `fetch` (which reads answers whole), `WebSocket` and `Deno.connect`, `Deno.env.get`.
 */

/** A tensor as hooks see it: little-endian, row-major bytes; BYTES elements are length-prefixed. */
interface NamedTensor {
  name: string;
  /** KServe name, for example `FP32` or `BYTES`. */
  datatype: string;
  /** Extents in wire order. */
  shape: number[];
  data: Uint8Array;
}

/**
 * Thrown by a hook, refuses the request as its client's mistake: the client gets INVALID_ARGUMENT with the
 * message (500 characters of it). Whatever else a hook throws is INTERNAL.
 */
declare class InvalidArgument extends Error {
  constructor(message: string);
}

type Hook = (inputs: NamedTensor[]) => NamedTensor[] | Promise<NamedTensor[]>;

/**
 * Registers the hooks of this bundle; called once, at the top level. A missing hook is the identity.
 * `preprocess` turns client inputs into program inputs, `postprocess` program outputs into client
 * outputs, once per request.
 */
declare function register_model(
  name: string,
  hooks: { preprocess?: Hook; postprocess?: Hook },
): void;

/** Runs the models a meta model is made of. */
interface Call {
  /**
   * Infers with a model that the manifest's `meta.calls` names, its hooks included, within the deadline
   * of the request. Rejects when it fails; a failure that is let through is the request's own.
   */
  (model: string, inputs: NamedTensor[]): Promise<NamedTensor[]>;
  /**
   * Working memory for this run: zeroed, 64-byte-aligned buffers of these sizes, taken back when `run`
   * ends. Tensors made in it pass to models by reference, without a copy. May be called once per run.
   */
  scratch(byteLengths: number[]): Promise<Uint8Array[]>;
}

/** Registers a meta model's `run`; called once, at the top level. */
declare function register_meta(
  name: string,
  run: (inputs: NamedTensor[], call: Call) => NamedTensor[] | Promise<NamedTensor[]>,
): void;

/** This bundle. Files are named relative to its folder. */
declare const bundle: {
  readonly name: string;
  readBytes(file: string): Uint8Array;
  readText(file: string): string;
};
