/**
 * The contract between an HTTP/2 connection and the layer above it (`src/transport/grpc`). Callbacks,
 * not streams: nothing is allocated per frame on the hot path.
 */

/**
 * One header field; names are lower-case, pseudo-headers included, order kept. Strings hold one byte per
 * character (Latin-1; char codes over 255 are refused). `isSensitive`: never put into a compression
 * table, on this hop or a later one.
 */
export type HeaderField = readonly [name: string, value: string, isSensitive?: boolean];
export type HeaderList = readonly HeaderField[];

/** Why a stream ended early. */
export interface StreamEnd {
  /** An RFC 9113 section 7 error code (`NO_ERROR` 0, `CANCEL` 8, `REFUSED_STREAM` 7, …). */
  readonly code: number;
  /** Who ended it: the peer's RST_STREAM, a protocol error of ours, or the connection going away. */
  readonly cause: "peer" | "local" | "connection";
  /** True when the peer certainly did not process the stream, so that it may be retried elsewhere. */
  readonly unprocessed: boolean;
  readonly message: string;
}

/** What the layer above is told about a stream. Called on the event loop, never re-entrantly. */
export interface StreamListener {
  /** Initial headers on the client side, trailers on either side (1xx responses are not passed on). */
  onHeaders(headers: HeaderList, endStream: boolean): void;
  /**
   * DATA payload, padding removed. `chunk` is a view of the connection's read buffer: return `true` to
   * keep it (the buffer is then given up to you), `false` when you copied or no longer need it.
   * Flow-control credit is given back only by `Http2Stream.consume`.
   */
  onData(chunk: Uint8Array, endStream: boolean): boolean;
  /** The stream ended before both sides were done. Called at most once, and nothing follows. */
  onEnd(end: StreamEnd): void;
  /** Everything handed to `sendData` has left for the socket; only after it returned `false`. */
  onDrain(): void;
}

/** One stream, as the layer above uses it. Every method is a no-op once the stream is over. */
export interface Http2Stream {
  readonly id: number;
  /** Both sides have ended, or it was reset. */
  readonly isClosed: boolean;
  sendHeaders(headers: HeaderList, endStream: boolean): void;
  /**
   * Queues DATA; the chunks are written as they are, not copied, and must not change until sent. Returns
   * `false` when bytes are still waiting for window or socket: wait for `onDrain` before sending more.
   */
  sendData(chunks: readonly Uint8Array[], endStream: boolean): boolean;
  /** RST_STREAM with an RFC 9113 error code. The listener hears nothing more. */
  reset(code: number): void;
  /** Gives `bytes` of received DATA back to the peer's window. */
  consume(bytes: number): void;
}

/** A connection, from either end. */
export interface Http2Connection {
  /** Remote address, for logs. */
  readonly peer: string;
  readonly activeStreams: number;
  /** Client side: whether another stream may be opened now (peer's limit, GOAWAY, closed). */
  readonly canOpen: boolean;
  /** Client side only. Throws when `canOpen` is false. */
  open(headers: HeaderList, endStream: boolean, listener: StreamListener): Http2Stream;
  /** GOAWAY; no new streams; resolves when those in progress are done and the connection is closed. */
  drain(): Promise<void>;
  /** Closes at once; every open stream hears `onEnd` with cause `connection`. */
  destroy(reason?: string): void;
  /**
   * Settles when the connection is closed: when its descriptor has been released, or a second after
   * it was closed where a peer that does not react keeps that from happening. Never rejects.
   */
  readonly closed: Promise<void>;
}

/** A connection as its server sees it. */
export interface ServedConnection extends Http2Connection {
  /**
   * Settles when no read or write is under way on the closed byte stream any more, and so its descriptor
   * is free. A peer that does not react can put it off for as long as it likes. Never rejects.
   */
  readonly released: Promise<void>;
}

/** The byte stream under a connection: `Deno.Conn`, `Deno.TlsConn`, a Unix socket, or a test's pipe. */
export interface ByteStream {
  read(into: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
  close(): void;
  /** Half-close after the last write; a stream without it is closed outright. */
  closeWrite?(): Promise<void>;
}
