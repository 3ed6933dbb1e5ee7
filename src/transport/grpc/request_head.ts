/** What a request's headers say, read once per distinct header list. */

import { ServerError, type StatusName } from "../../errors.ts";
import { parseTimeout } from "../deadline.ts";
import type { MethodHandler, MethodTable } from "../handler.ts";
import type { HeaderList } from "../http2/mod.ts";
import { acceptsGzip, type Encoding, encodingOf } from "./compression.ts";

/** Why a request is turned away before any handler sees it. */
export interface Refusal {
  /** `:status` of the answer; anything but 200 for requests that are not gRPC. */
  readonly httpStatus: string;
  readonly status: StatusName;
  readonly message: string;
}

/** A request's headers, understood. */
export interface RequestHead {
  readonly headers: HeaderList;
  readonly path: string;
  readonly handler: MethodHandler | undefined;
  readonly refusal: Refusal | undefined;
  readonly timeoutMs: number | undefined;
  /** How compressed request messages are compressed. */
  readonly encoding: Encoding;
  /** Whether responses may be compressed: the caller compresses too, and accepts gzip. */
  readonly mayCompress: boolean;
}

/** Reads a header list. Never throws: what is wrong becomes a refusal. */
export function readRequestHead(headers: HeaderList, methods: MethodTable): RequestHead {
  let path = "";
  let method = "";
  let contentType = "";
  let timeout: string | undefined;
  let encodingName = "identity";
  let accepted = "";
  for (const [name, value] of headers) {
    switch (name) {
      case ":path":
        path = value;
        break;
      case ":method":
        method = value;
        break;
      case "content-type":
        contentType = value;
        break;
      case "grpc-timeout":
        timeout = value;
        break;
      case "grpc-encoding":
        encodingName = value;
        break;
      case "grpc-accept-encoding":
        accepted = value;
        break;
    }
  }
  const handler = methods.get(path);
  const encoding = encodingOf(encodingName);
  let refusal: Refusal | undefined;
  let timeoutMs: number | undefined;
  try {
    if (method !== "POST") {
      refusal = { httpStatus: "405", status: "INTERNAL", message: "gRPC requests are POST" };
    } else if (!isGrpcContentType(contentType)) {
      const message = `Unsupported content-type ${JSON.stringify(contentType.slice(0, 64))}`;
      refusal = { httpStatus: "415", status: "INTERNAL", message };
    } else if (handler === undefined) {
      throw unimplemented(`Unknown method ${path.slice(0, 256)}`);
    } else if (encoding === undefined) {
      throw unimplemented(`Unknown grpc-encoding ${JSON.stringify(encodingName.slice(0, 64))}`);
    }
    if (timeout !== undefined) timeoutMs = parseTimeout(timeout);
  } catch (error) {
    const { status, message } = error as ServerError;
    refusal = { httpStatus: "200", status, message };
  }
  return {
    headers,
    path,
    handler,
    refusal,
    timeoutMs,
    encoding: encoding ?? "identity",
    mayCompress: encoding === "gzip" && acceptsGzip(accepted),
  };
}

/**
 * The head of a list that differs from another one in nothing but its time: callers with a deadline send
 * what is left of it, which is never the same. `undefined`: it differs in more. Fields are compared as
 * objects, which those of a compression table are.
 */
export function retimedHead(head: RequestHead, headers: HeaderList): RequestHead | undefined {
  if (head.refusal !== undefined || head.headers.length !== headers.length) return undefined;
  let timeoutMs = head.timeoutMs;
  let isRetimed = false;
  for (let at = 0; at < headers.length; at++) {
    const [name, value] = headers[at]!;
    if (headers[at] === head.headers[at]) {
      // The last one counts.
      if (isRetimed && name === "grpc-timeout") return undefined;
      continue;
    }
    if (name !== "grpc-timeout" || head.headers[at]![0] !== name) return undefined;
    isRetimed = true;
    try {
      timeoutMs = parseTimeout(value);
    } catch {
      // Malformed: a refusal, which is worded where all others are.
      return undefined;
    }
  }
  const { path, handler, refusal, encoding, mayCompress } = head;
  return { headers, path, handler, refusal, timeoutMs, encoding, mayCompress };
}

function unimplemented(message: string): ServerError {
  return new ServerError("UNIMPLEMENTED", message);
}

/** `application/grpc`, bare or with a subtype or parameters. */
export function isGrpcContentType(value: string): boolean {
  return value.startsWith("application/grpc") &&
    (value.length === 16 || value[16] === "+" || value[16] === ";");
}
