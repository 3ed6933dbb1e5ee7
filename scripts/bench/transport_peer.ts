/**
 * One process of the transport benchmark: an echo server, or a proxy in front of one, over either
 * transport. Prints its port, then serves until it is told to end.
 *
 *     deno run -A transport_peer.ts ROLE TRANSPORT [UPSTREAM]
 */

import { Buffer } from "node:buffer";
import * as grpc from "@grpc/grpc-js";
import {
  type CallContext,
  GrpcClient,
  joinMessage,
  type Message,
  serveGrpc,
  type TransportName,
  type UnaryHandler,
} from "../../src/transport/mod.ts";

const MAX_BYTES = 64 << 20;
const PATH = "/inference.GRPCInferenceService/ModelInfer";

/** Passes a call on through the native client: chunks, deadline and cancellation. */
function nativeForward(upstream: string): UnaryHandler {
  const client = new GrpcClient({ target: upstream, maxReceiveBytes: MAX_BYTES });
  return async (request, call) =>
    (await client.unary(call.path, request, { parent: call })).message;
}

/** The same through a grpc-js client of raw buffers. */
function grpcJsForward(upstream: string): UnaryHandler {
  const client = new grpc.Client(upstream, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": MAX_BYTES,
  });
  return (request: Message, call: CallContext) =>
    new Promise((resolve, reject) => {
      const outgoing = client.makeUnaryRequest(
        call.path,
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from(joinMessage(request)),
        new grpc.Metadata(),
        (error, response) => error ? reject(error) : resolve([response!]),
      );
      call.onAbort?.(() => outgoing.cancel());
    });
}

if (import.meta.main) {
  const [role, transport, upstream] = Deno.args as [string, TransportName, string?];
  const handle: UnaryHandler = role === "echo"
    ? (request) => request
    : transport === "native"
    ? nativeForward(upstream!)
    : grpcJsForward(upstream!);
  const server = await serveGrpc({
    transport,
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: MAX_BYTES,
    maxSendBytes: MAX_BYTES,
    methods: new Map([[PATH, { kind: "unary", handle }]]),
  });
  console.log(server.port);
  // An orderly end, for `deno run --cpu-prof` to write its profile.
  Deno.addSignalListener("SIGTERM", () => void server.shutdown(0).then(() => Deno.exit(0)));
}
