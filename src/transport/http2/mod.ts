/**
 * HTTP/2 (RFC 9113, HPACK RFC 7541) over any byte stream, server and client from one core: frames,
 * header compression, streams, flow control at both levels, graceful drain, timeouts and the limits
 * that the known attacks call for. Built for gRPC's hot path: nothing is allocated or awaited per
 * frame, received DATA is passed on as views, and all output of a tick leaves in one write. It knows
 * nothing of gRPC, makes no retry and no reconnect, and never pushes: the layer above does or need not.
 */

export type {
  ByteStream,
  HeaderField,
  HeaderList,
  Http2Connection,
  Http2Stream,
  ServedConnection,
  StreamEnd,
  StreamListener,
} from "./types.ts";
export { acceptHttp2, connectHttp2 } from "./accept.ts";
export { dialHttp2, type DialOptions, type DialTarget } from "./client.ts";
export type { OnStream } from "./frame_handler.ts";
export { ErrorCode, errorCodeName } from "./error_codes.ts";
export { DEFAULT_LIMITS, type Http2Limits, type RateLimitOptions } from "./limits.ts";
export { type Clock, type Http2Options, systemClock } from "./options.ts";
export { SocketStream } from "./socket.ts";
export {
  type Http2Listener,
  type Http2ListenOptions,
  listenHttp2,
  type ListenTarget,
  type TlsIdentity,
} from "./server.ts";
