/** What is checked of a bundle's folder before its hooks run, and of every tensor that hooks give. */

import { realpathSync } from "node:fs";
import { join } from "node:path";
import { BundleError } from "../../errors.ts";
import {
  byteLengthOf,
  datatypeFromWire,
  decodeBytesElements,
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
        const target = realpathSync(path);
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

/**
 * Tensors as a hook gave them, checked whole: name, datatype, shape and exact byte length.
 * `copyShared` takes tensors in shared memory out of it.
 * @throws {TypeError | RangeError} whose message completes "the hook gave …"
 */
export function checkTensors(value: unknown, { copyShared = false } = {}): NamedTensor[] {
  if (!Array.isArray(value)) throw new TypeError("no list of tensors");
  const seen = new Set<string>();
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
      const found = decodeBytesElements(data).length;
      if (found !== elementCount(spec.shape)) {
        throw new TypeError(`tensor ${quoted} ${found} elements for shape [${shape}]`);
      }
    } else if (data.length !== byteLengthOf(spec)) {
      throw new TypeError(
        `tensor ${quoted} ${data.length} bytes where ${byteLengthOf(spec)} belong to [${shape}]`,
      );
    }
    return { name, datatype: info.datatype, shape: spec.shape, data };
  });
}
