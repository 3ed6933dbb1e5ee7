/**
 * Our transport with a canned answer: every ModelInfer gets the message in a file, and nothing is decoded.
 * With the names of models it can stand behind a gateway. Prints its port, then serves until it is killed.
 *
 *     deno run -A canned_peer.ts FILE [MODEL...]
 */

import {
  encodeMessage,
  RepositoryIndexResponseSchema,
  ServerReadyResponseSchema,
} from "../../src/protocol/mod.ts";
import { type Message, type MethodHandler, serveGrpc } from "../../src/transport/mod.ts";

if (import.meta.main) {
  const [file, ...models] = Deno.args;
  const answer = [await Deno.readFile(file!)];
  const canned = (name: string, message: Message): [string, MethodHandler] => [
    `/inference.GRPCInferenceService/${name}`,
    { kind: "unary", handle: () => message },
  ];
  const server = await serveGrpc({
    transport: "native",
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: 256 << 20,
    maxSendBytes: 64 << 20,
    methods: new Map([
      canned("ModelInfer", answer),
      canned("ServerReady", encodeMessage(ServerReadyResponseSchema, { ready: true })),
      canned(
        "RepositoryIndex",
        encodeMessage(RepositoryIndexResponseSchema, {
          models: models.map((name) => ({ name, state: "READY" })),
        }),
      ),
    ]),
  });
  console.log(server.port);
}
