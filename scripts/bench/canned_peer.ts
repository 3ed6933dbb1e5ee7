/**
 * Our transport with a canned answer: every ModelInfer gets the message in a file, and nothing is decoded.
 * Prints its port, then serves until it is killed.
 *
 *     deno run -A canned_peer.ts FILE
 */

import { serveGrpc } from "../../src/transport/mod.ts";

if (import.meta.main) {
  const answer = [await Deno.readFile(Deno.args[0]!)];
  const server = await serveGrpc({
    transport: "native",
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: 64 << 20,
    maxSendBytes: 64 << 20,
    methods: new Map([
      ["/inference.GRPCInferenceService/ModelInfer", { kind: "unary", handle: () => answer }],
    ]),
  });
  console.log(server.port);
}
