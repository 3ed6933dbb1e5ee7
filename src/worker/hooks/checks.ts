/** What is checked of a bundle's folder before its hooks run, and of every tensor that hooks give. */

import { realpathSync } from "node:fs";
import { join } from "node:path";
import { BundleError, messageOf } from "../../errors.ts";
import {
  byteLengthOf,
  datatypeFromWire,
  elementCount,
  type NamedTensor,
} from "../../tensor/mod.ts";

/**
 * A read permission follows symbolic links, so a link out of the folder would be a way out.
 * @throws {BundleError} naming the link
 */
export function refuseEscapingLinks(model: string, directory: string): void {
  const root = realpathSync(directory);
  const walk = (folder: string, depth: number): void => {
    if (depth > 16) throw new BundleError(model, "its folder is nested deeper than 16 levels");
    for (const entry of Deno.readDirSync(folder)) {
      const path = join(folder, entry.name);
      if (entry.isSymlink) {
        const target = targetOf(model, path, entry.name);
        if (!target.startsWith(root + "/")) {
          throw new BundleError(
            model,
            `${
              JSON.stringify(entry.name)
            } is a link that leads out of the bundle; its hooks could ` +
              `read through it. Copy the file into the bundle`,
          );
        }
      } else if (entry.isDirectory) {
        walk(path, depth + 1);
      }
    }
  };
  walk(root, 0);
}

/** @throws {BundleError} for a link that leads nowhere: what it will lead to one day is anybody's guess */
function targetOf(model: string, path: string, name: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw new BundleError(
      model,
      `${JSON.stringify(name)} is a link that cannot be followed: ${messageOf(error)}`,
    );
  }
}

/**
 * Tensors as a hook gave them, checked whole: name, datatype, shape and exact byte length.
 * `copyShared` takes tensors in shared memory out of it.
 * @throws {TypeError | RangeError} whose message completes "the hook gave …"
 */
export function checkTensors(value: unknown, { copyShared = false } = {}): NamedTensor[] {
  if (!Array.isArray(value)) throw new TypeError("no list of tensors");
  const seen = new Set<string>();
  if (copyShared) refuseOverlaps(value);
  return value.map((tensor: Partial<NamedTensor>, index) => {
    const { name, datatype, shape } = tensor ?? {};
    // Copied before it is checked: shared memory may change under our eyes.
    const isShared = copyShared && tensor?.data?.buffer instanceof SharedArrayBuffer;
    const data = isShared ? tensor.data!.slice() : tensor?.data;
    if (typeof name !== "string" || name === "") throw new TypeError(`no name for tensor ${index}`);
    const quoted = JSON.stringify(name.slice(0, 200));
    if (seen.has(name)) throw new TypeError(`tensor ${quoted} twice`);
    seen.add(name);
    const info = datatypeFromWire(String(datatype));
    if (!info) throw new TypeError(`tensor ${quoted} an unknown datatype ${String(datatype)}`);
    if (
      !Array.isArray(shape) || shape.length > 32 ||
      !shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)
    ) throw new TypeError(`tensor ${quoted} a bad shape`);
    if (!(data instanceof Uint8Array)) throw new TypeError(`tensor ${quoted} no bytes`);
    const spec = { datatype: info.datatype, shape: shape as number[] };
    if (info.datatype === "BYTES") {
      const problem = problemOfElements(data, elementCount(spec.shape));
      if (problem) throw new TypeError(`tensor ${quoted} ${problem} for shape [${shape}]`);
    } else if (data.length !== byteLengthOf(spec)) {
      throw new TypeError(
        `tensor ${quoted} ${data.length} bytes where ${byteLengthOf(spec)} belong to [${shape}]`,
      );
    }
    return { name, datatype: info.datatype, shape: spec.shape, data };
  });
}

/**
 * Many tensors may be views of one piece of shared memory, and each would be copied.
 * @throws {RangeError} when they hold more than the memory they lie in
 */
function refuseOverlaps(tensors: readonly Partial<NamedTensor>[]): void {
  const memories = new Set<ArrayBufferLike>();
  let bytes = 0;
  for (const tensor of tensors) {
    const data = tensor?.data;
    if (!(data instanceof Uint8Array && data.buffer instanceof SharedArrayBuffer)) continue;
    memories.add(data.buffer);
    bytes += data.length;
  }
  let room = 0;
  for (const { byteLength } of memories) room += byteLength;
  if (bytes > room) throw new RangeError(`${bytes} bytes of tensors in ${room} of scratch memory`);
}

/** What a tensor of strings may have: far more than any model takes, and counted in a moment. */
const MAX_ELEMENTS = 2 ** 24;

/** What is wrong with the contents of a BYTES tensor that is to have `count` elements. */
function problemOfElements(data: Uint8Array, count: number): string | undefined {
  if (count > MAX_ELEMENTS) return `more than ${MAX_ELEMENTS} elements`;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  // Counted and not taken apart: a hook may give millions, and this is everybody's thread.
  for (let found = 0; found < count; found++) {
    if (at + 4 > data.length) return `${found} elements`;
    at += 4 + view.getUint32(at, true);
    if (at > data.length) return `element ${found} beyond its bytes`;
  }
  return at < data.length ? `more elements` : undefined;
}
