/**
 * The server of the interoperability tests, as a process of its own: prints its port, serves until it
 * is told to end.
 *
 *     deno run -A echo_server.ts TRANSPORT [CERT KEY [CLIENT_CA]]
 */

import {
  type GrpcServer,
  healthMethods,
  HealthStatus,
  type MethodHandler,
  reflectionMethods,
  serveGrpc,
  type TransportName,
} from "../../../src/transport/mod.ts";
import { contractMethods } from "../../../src/transport/contract_methods.ts";

/** Largest message; the clients send one byte more than 64 000 000 to see it refused. */
const MAX_BYTES = 64_000_000;

/** Canned answers in the shape of Triton's: model "echo", output "y" FP32 [4] of 1, 2, 3, 4. */
function tritonMethods(): [string, MethodHandler][] {
  const output = [0x0a, 1, 0x79, 0x12, 4, 0x46, 0x50, 0x33, 0x32, 0x1a, 1, 4];
  const raw = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);
  const response = Uint8Array.of(
    ...[0x0a, 4, 0x65, 0x63, 0x68, 0x6f],
    ...[0x2a, output.length, ...output],
    ...[0x32, raw.length, ...raw],
  );
  const service = "/inference.GRPCInferenceService";
  return [
    [`${service}/ServerLive`, { kind: "unary", handle: () => [Uint8Array.of(8, 1)] }],
    [`${service}/ModelInfer`, { kind: "unary", handle: () => [response] }],
    [`${service}/ModelStreamInfer`, {
      kind: "stream",
      async *handle(requests) {
        for await (const _ of requests) yield [Uint8Array.of(0x12, response.length), response];
      },
    }],
  ];
}

/** Starts the server in this process. */
export function startEchoServer(
  transport: TransportName,
  options: {
    tls?: { cert: string; key: string; clientCa?: string };
    maxBytes?: number;
    hostname?: string;
  } = {},
): Promise<GrpcServer> {
  const health = new HealthStatus();
  health.set("", "SERVING");
  return serveGrpc({
    transport,
    hostname: options.hostname ?? "127.0.0.1",
    port: 0,
    maxReceiveBytes: options.maxBytes ?? MAX_BYTES,
    maxSendBytes: options.maxBytes ?? MAX_BYTES,
    tls: options.tls,
    methods: new Map([
      ...contractMethods(),
      ...tritonMethods(),
      ...healthMethods(health),
      ...reflectionMethods({ files: [] }),
    ]),
  });
}

if (import.meta.main) {
  const server = await startEchoServer(Deno.args[0] as TransportName, { maxBytes: 0xffffffff });
  console.log(server.port);
}
