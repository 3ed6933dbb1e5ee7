/** Call metadata over a plain list of header fields, and the `-bin` encoding on the wire. */

import { InvalidArgumentError } from "../errors.ts";
import type { Metadata } from "./handler.ts";

/** A header field as it travels: lower-case name, `-bin` values in base64. */
export type WireField = readonly [name: string, value: string, isSensitive?: boolean];

type Value = string | Uint8Array;

const KEY = /^[0-9a-z_.-]+$/;
const TEXT = /^[\x20-\x7e]*$/;

/** Names the transport itself owns: they never appear as metadata and cannot be appended. */
function isReserved(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 0x3a: // ':'
      return true;
    case 0x67: // 'g'
      return name.startsWith("grpc-") && !name.endsWith("-bin");
    case 0x74: // 't'
      return name === "te" || name === "transfer-encoding";
    case 0x63: // 'c'
      return name === "content-type" || name === "connection";
    default:
      return false;
  }
}

/**
 * Metadata read from, or to be written as, header fields. Reading is lenient (a `-bin` value that is not
 * base64 is dropped), appending strict. Received fields are looked at on first use only.
 */
export class CallMetadata implements Metadata {
  #received: readonly WireField[] | undefined;
  #entries: [string, Value][] = [];

  /** Metadata as received: pseudo-headers and transport headers are left out. */
  static received(fields: readonly WireField[]): CallMetadata {
    const metadata = new CallMetadata();
    metadata.#received = fields;
    return metadata;
  }

  /** Metadata received already decoded; transport headers are left out. */
  static decoded(entries: Iterable<readonly [string, Value]>): CallMetadata {
    const metadata = new CallMetadata();
    for (const [name, value] of entries) {
      if (!isReserved(name)) metadata.#entries.push([name, value]);
    }
    return metadata;
  }

  /** A new list with these entries. Throws `InvalidArgumentError` as `append` does. */
  static from(entries: Iterable<readonly [string, Value]>): CallMetadata {
    const metadata = new CallMetadata();
    for (const [key, value] of entries) metadata.append(key, value);
    return metadata;
  }

  /** Whether there is nothing to send. */
  get isEmpty(): boolean {
    return this.#all().length === 0;
  }

  get(key: string): Value | undefined {
    for (const [name, value] of this.#all()) if (name === key) return value;
    return undefined;
  }

  getAll(key: string): readonly Value[] {
    return this.#all().filter(([name]) => name === key).map(([, value]) => value);
  }

  /** Throws `InvalidArgumentError` for a key or value that HTTP/2 cannot carry, or a transport header. */
  append(key: string, value: Value): void {
    const shown = JSON.stringify(key.slice(0, 64));
    if (!KEY.test(key)) {
      throw new InvalidArgumentError(
        `Metadata key ${shown} must be lower-case letters, digits and "_.-"`,
      );
    }
    if (isReserved(key)) {
      throw new InvalidArgumentError(`Metadata key ${shown} belongs to the transport`);
    }
    if (key.endsWith("-bin")) {
      if (typeof value === "string") {
        throw new InvalidArgumentError(`Metadata key ${shown} takes bytes, not text`);
      }
    } else if (typeof value !== "string" || !TEXT.test(value)) {
      throw new InvalidArgumentError(`Metadata key ${shown} takes printable ASCII text`);
    }
    this.#all().push([key, value]);
  }

  entries(): Iterable<readonly [string, Value]> {
    return this.#all();
  }

  /** Header fields for the wire, after `into` if that is given. */
  toFields(into: WireField[] = []): WireField[] {
    for (const [name, value] of this.#all()) {
      into.push(typeof value === "string" ? [name, value] : [name, encodeBinary(value)]);
    }
    return into;
  }

  #all(): [string, Value][] {
    if (this.#received !== undefined) {
      const fields = this.#received;
      this.#received = undefined;
      for (const [name, value] of fields) {
        if (isReserved(name)) continue;
        if (!name.endsWith("-bin")) {
          this.#entries.push([name, value]);
          continue;
        }
        // Several binary values may arrive joined by commas, which base64 does not use.
        for (const piece of value.split(",")) {
          const bytes = decodeBinary(piece.trim());
          if (bytes !== undefined) this.#entries.push([name, bytes]);
        }
      }
    }
    return this.#entries;
  }
}

/** Base64 without padding, as gRPC writes `-bin` values. */
export function encodeBinary(bytes: Uint8Array): string {
  return bytes.toBase64({ omitPadding: true });
}

/** Base64 with or without padding; `undefined` when it is neither. */
export function decodeBinary(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.fromBase64(text);
  } catch {
    // A SyntaxError: the sender's mistake, and no reason to fail a call that may never look at it.
    return undefined;
  }
}
