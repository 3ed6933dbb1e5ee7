/** Frames: joined, cut, made from their parts, invented and mutated with an eye to their structure. */

import type { Random } from "./random.ts";
import type { Recording } from "./recording.ts";

/** What a client sends first (RFC 9113, section 3.4). */
export const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** Of every frame. */
export const HEADER_BYTES = 9;

/** Several pieces as one. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Cuts bytes into frames; throws when they are not whole frames. */
export function cut(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const end = at + HEADER_BYTES + length;
    if (!(end <= bytes.length)) throw new Error("the output ends inside a frame");
    frames.push(bytes.slice(at, end));
    at = end;
  }
  return frames;
}

function makeFrame(type: number, flags: number, streamId: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, (payload.length << 8) | type);
  view.setUint8(4, flags);
  view.setUint32(5, streamId);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

const EDGES = [0, 1, 2, 5, 9, 127, 255, 16_384, 65_535, 0x7fff_fffe, 0x7fff_ffff, 0xffff_ffff];
/** Payloads of frame types that have a size of their own. */
export const SIZES: Readonly<Record<number, number>> = { 2: 5, 3: 4, 6: 8, 7: 8, 8: 4 };

/** A frame of a random type that is mostly well-formed. */
function inventFrame(random: Random): Uint8Array {
  const type = random.below(random.oneIn(10) ? 256 : 11);
  const streamId = random.oneIn(4) ? random.pick(EDGES) : random.below(24);
  let payload = new Uint8Array(SIZES[type] ?? random.below(60));
  if (type === 4) payload = new Uint8Array(6 * random.below(5));
  for (let i = 0; i < payload.length; i++) payload[i] = random.below(256);
  if ((type === 3 || type === 8) && payload.length === 4) {
    new DataView(payload.buffer).setUint32(0, random.pick(EDGES));
  }
  if (type === 4) {
    const view = new DataView(payload.buffer);
    for (let at = 0; at < payload.length; at += 6) {
      view.setUint16(at, random.below(8));
      view.setUint32(at + 2, random.pick(EDGES));
    }
  }
  const onConnection = type === 4 || type === 6 || type === 7;
  return makeFrame(
    type,
    random.oneIn(3) ? random.below(256) : random.pick([0, 1, 4, 5]),
    onConnection && !random.oneIn(10) ? 0 : streamId,
    payload,
  );
}

/** Changes one frame: a field of its header, bytes of its payload, or its length. */
function mutateFrame(frame: Uint8Array, random: Random): Uint8Array {
  let copy: Uint8Array = frame.slice();
  const view = () => new DataView(copy.buffer, copy.byteOffset);
  switch (random.below(8)) {
    case 0:
      view().setUint8(3, random.below(11));
      break;
    case 1:
      view().setUint8(4, copy[4]! ^ (1 << random.below(8)));
      break;
    case 2:
      view().setUint32(5, random.oneIn(2) ? random.pick(EDGES) : random.below(24));
      break;
    case 3:
      // A length that does not fit what follows.
      view().setUint32(0, (random.below(1 << (1 + random.below(22))) << 8) | copy[3]!);
      break;
    case 4: {
      const payload = copy.subarray(HEADER_BYTES, HEADER_BYTES + random.below(copy.length));
      copy = makeFrame(copy[3]!, copy[4]!, view().getUint32(5), payload);
      break;
    }
    default:
      for (let i = 1 + random.below(3); i > 0 && copy.length > HEADER_BYTES; i--) {
        const at = HEADER_BYTES + random.below(copy.length - HEADER_BYTES);
        copy[at] = random.oneIn(2) ? random.below(256) : copy[at]! ^ (1 << random.below(8));
      }
  }
  return copy;
}

/** Splits a HEADERS frame into HEADERS and CONTINUATION at a random place. */
function splitHeaders(frame: Uint8Array, random: Random): Uint8Array[] {
  const [type, flags] = [frame[3]!, frame[4]!];
  if (type !== 1 || (flags & 0x28) !== 0) return [frame];
  const id = new DataView(frame.buffer).getUint32(5);
  const payload = frame.subarray(HEADER_BYTES);
  const at = random.below(payload.length + 1);
  return [
    makeFrame(1, flags & ~4, id, payload.subarray(0, at)),
    makeFrame(9, flags & 4, id, payload.subarray(at)),
  ];
}

/** A mutated conversation. */
export function mutate(recording: Recording, random: Random): Uint8Array[] {
  let frames = [...recording.frames];
  const count = 1 + random.below(6);
  for (let i = 0; i < count; i++) {
    const at = random.below(frames.length);
    switch (random.below(7)) {
      case 0:
        frames.splice(at, 1);
        break;
      case 1:
        frames.splice(random.below(frames.length), 0, frames[at]!);
        break;
      case 2:
        [frames[at], frames[0]] = [frames[0]!, frames[at]!];
        break;
      case 3:
        frames.splice(
          at,
          0,
          ...Array.from({ length: 1 + random.below(8) }, () => inventFrame(random)),
        );
        break;
      case 4:
        frames.splice(at, 1, ...splitHeaders(frames[at]!, random));
        break;
      case 5:
        frames = [...frames, ...frames.slice(at)];
        break;
      default:
        frames[at] = mutateFrame(frames[at]!, random);
    }
    if (frames.length === 0) frames.push(inventFrame(random));
  }
  return frames;
}
