/** SETTINGS (RFC 9113 section 6.5): the parameters, their defaults and their ranges. */

import { ConnectionError, ErrorCode } from "./error_codes.ts";
import {
  FRAME_HEADER_BYTES,
  FrameType,
  MAX_INT31,
  MAX_MAX_FRAME_BYTES,
  MIN_MAX_FRAME_BYTES,
  readUint32,
  writeFrameHeader,
  writeUint32,
} from "./frames.ts";

export const SettingId = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
} as const;

/** The window every stream and connection starts with. */
export const DEFAULT_WINDOW_BYTES = 65_535;
/** Bytes of one parameter. */
export const SETTING_BYTES = 6;

/** What the peer asked of us. */
export class PeerSettings {
  headerTableBytes = 4096;
  isPushEnabled = true;
  maxConcurrentStreams = Infinity;
  initialWindowBytes = DEFAULT_WINDOW_BYTES;
  maxFrameBytes = MIN_MAX_FRAME_BYTES;
  maxHeaderListBytes = Infinity;

  /** Applies a SETTINGS payload in order. Throws `ConnectionError` for a value out of range. */
  apply(bytes: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end; at += SETTING_BYTES) {
      this.#set((bytes[at]! << 8) | bytes[at + 1]!, readUint32(bytes, at + 2));
    }
  }

  #set(id: number, value: number): void {
    switch (id) {
      case SettingId.HEADER_TABLE_SIZE:
        this.headerTableBytes = value;
        break;
      case SettingId.ENABLE_PUSH:
        if (value > 1) throw outOfRange("ENABLE_PUSH", value);
        this.isPushEnabled = value === 1;
        break;
      case SettingId.MAX_CONCURRENT_STREAMS:
        this.maxConcurrentStreams = value;
        break;
      case SettingId.INITIAL_WINDOW_SIZE:
        if (value > MAX_INT31) {
          throw new ConnectionError(
            ErrorCode.FLOW_CONTROL_ERROR,
            `SETTINGS_INITIAL_WINDOW_SIZE ${value} is out of range`,
          );
        }
        this.initialWindowBytes = value;
        break;
      case SettingId.MAX_FRAME_SIZE:
        if (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES) {
          throw outOfRange("MAX_FRAME_SIZE", value);
        }
        this.maxFrameBytes = value;
        break;
      case SettingId.MAX_HEADER_LIST_SIZE:
        this.maxHeaderListBytes = value;
        break;
      default:
        // Unknown parameters are ignored (section 6.5.2).
    }
  }
}

function outOfRange(name: string, value: number): ConnectionError {
  return new ConnectionError(
    ErrorCode.PROTOCOL_ERROR,
    `SETTINGS_${name} ${value} is out of range`,
  );
}

/** A whole SETTINGS frame. */
export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]) {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + settings.length * SETTING_BYTES);
  writeFrameHeader(frame, 0, settings.length * SETTING_BYTES, FrameType.SETTINGS, 0, 0);
  settings.forEach(([id, value], i) => {
    const at = FRAME_HEADER_BYTES + i * SETTING_BYTES;
    frame[at] = id >>> 8;
    frame[at + 1] = id;
    writeUint32(frame, at + 2, value);
  });
  return frame;
}
