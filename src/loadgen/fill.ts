/** What the tensors of a load hold. */

import { type Datatype, datatypeInfo, elementCount, encodeBytesElements } from "../tensor/mod.ts";
import type { Random } from "./random.ts";

/** Contents of a tensor. Random integers are small: they may be indices. */
export function fill(
  datatype: Datatype,
  shape: readonly number[],
  kind: "zeros" | "random",
  random: Random,
): Uint8Array {
  const count = elementCount(shape);
  if (datatype === "BYTES") {
    const words = Array.from({ length: count }, () => kind === "zeros" ? "" : word(random));
    return encodeBytesElements(words);
  }
  const { byteSize } = datatypeInfo(datatype);
  const data = new Uint8Array(count * byteSize);
  if (kind === "zeros") return data;
  const view = new DataView(data.buffer);
  for (let index = 0; index < count; index++) {
    const at = index * byteSize;
    switch (datatype) {
      case "FP64":
        view.setFloat64(at, 2 * random.next() - 1, true);
        break;
      case "FP32":
        view.setFloat32(at, 2 * random.next() - 1, true);
        break;
      case "FP16":
        // ±0.5 to ±1: the exponent stays, the fraction is drawn.
        view.setUint16(at, 0x3800 | random.below(1 << 10) | random.below(2) << 15, true);
        break;
      case "BF16":
        view.setUint16(at, 0x3f00 | random.below(1 << 7) | random.below(2) << 15, true);
        break;
      default:
        // Little-endian, and small enough for one byte.
        view.setUint8(at, random.below(datatype === "BOOL" ? 2 : 8));
    }
  }
  return data;
}

function word(random: Random): string {
  return Array.from(
    { length: 1 + random.below(12) },
    () => String.fromCharCode(97 + random.below(26)),
  ).join("");
}
