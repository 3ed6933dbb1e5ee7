/** The two ends of a connection over any byte stream. */

import type { ByteStream, Http2Connection, ServedConnection } from "./types.ts";
import { Connection } from "./connection.ts";
import type { OnStream } from "./frame_handler.ts";
import { type Http2Options, resolveOptions } from "./options.ts";

/**
 * Serves HTTP/2 on a byte stream, which belongs to the connection from now on. `onStream` is called
 * for every request, with its headers checked against RFC 9113 section 8, and returns whom to tell of
 * the rest; it may answer before it returns.
 */
export function acceptHttp2(
  stream: ByteStream,
  options: Http2Options,
  onStream: OnStream,
): ServedConnection {
  return new Connection(stream, resolveOptions(options, true), onStream);
}

/**
 * Speaks HTTP/2 as the client on a byte stream, which belongs to the connection from now on. Streams
 * may be opened at once, before the server's SETTINGS have arrived.
 */
export function connectHttp2(stream: ByteStream, options: Http2Options = {}): Http2Connection {
  return new Connection(stream, resolveOptions(options, false));
}
