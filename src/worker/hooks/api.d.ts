/**
 * What a bundle's `model.ts` may use. Copy this file beside a hook for editor support; nothing else is
 * within its reach: no network, environment, subprocess, FFI, write or import, and only the bundle's own
 * folder to read.
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

/** This bundle. Files are named relative to its folder. */
declare const bundle: {
  readonly name: string;
  readBytes(file: string): Uint8Array;
  readText(file: string): string;
};
