/** Message compression, off the event loop's thread: `gzip` both ways, `deflate` of what others send. */

import { Buffer } from "node:buffer";
import { gunzip, gzip, inflate } from "node:zlib";
import { InternalError, ResourceExhaustedError, type ServerError } from "../../errors.ts";
import { joinMessage, type Message } from "../handler.ts";

/** What `grpc-accept-encoding` offers. */
export const ACCEPTED_ENCODINGS = "identity,deflate,gzip";

/** A `grpc-encoding` we speak. */
export type Encoding = "identity" | Compression;

/** `deflate` is what zlib calls its own format. */
export type Compression = keyof typeof EXPANDERS;

const EXPANDERS = { gzip: gunzip, deflate: inflate } as const;

/** The encoding of that name, or `undefined` when we do not speak it. */
export function encodingOf(name: string): Encoding | undefined {
  return name === "identity" || name === "gzip" || name === "deflate" ? name : undefined;
}

/** Whether a `grpc-accept-encoding` value offers gzip. */
export function acceptsGzip(value: string): boolean {
  return value.split(",").some((name) => name.trim() === "gzip");
}

/** Messages below this go out as they are: gzip would hardly shrink them. */
export const MIN_COMPRESSED_BYTES = 1024;

/** The message gzipped at the fastest level: on this path time is dearer than bytes. */
export async function compress(message: Message): Promise<Message> {
  return [
    await new Promise<Uint8Array>((resolve, reject) =>
      gzip(joinMessage(message), { level: 1 }, (error, bytes) => {
        if (error !== null) reject(error);
        else resolve(bytes);
      })
    ),
  ];
}

/**
 * Undoes a compression. Throws `ResourceExhaustedError` when the result would exceed `maxBytes`, without
 * ever holding more than that, and `InternalError` when the bytes are not of that format.
 */
export async function decompress(
  message: Message,
  encoding: Compression,
  maxBytes: number,
): Promise<Message> {
  const bytes = joinMessage(message);
  return [
    await new Promise<Uint8Array>((resolve, reject) => {
      // zlib refuses a limit of zero and limits beyond its own largest buffer.
      const maxOutputLength = Math.max(1, Math.min(maxBytes, MAX_BUFFER_BYTES));
      EXPANDERS[encoding](Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), {
        maxOutputLength,
      }, (error, inflated) => {
        if (error !== null) reject(expandError(error, encoding, maxBytes));
        else if (inflated.length > maxBytes) reject(tooLarge(maxBytes));
        else resolve(inflated);
      });
    }),
  ];
}

const MAX_BUFFER_BYTES = 0x7fffffff;

function expandError(
  error: Error & { code?: string },
  encoding: Compression,
  maxBytes: number,
): ServerError {
  return error.code === "ERR_BUFFER_TOO_LARGE" || error instanceof RangeError
    ? tooLarge(maxBytes)
    : new InternalError(`Message is not valid ${encoding}`, { cause: error });
}

function tooLarge(maxBytes: number): ServerError {
  return new ResourceExhaustedError(
    `Decompressed message is over the limit of ${maxBytes} bytes`,
  );
}
