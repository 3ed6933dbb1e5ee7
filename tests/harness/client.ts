/** A client of a test server: our own transport and client, closed when disposed. */

import { InferenceClient } from "../../src/client/mod.ts";
import { GrpcClient } from "../../src/transport/mod.ts";

export interface TestClient extends AsyncDisposable {
  readonly inference: InferenceClient;
  readonly grpc: GrpcClient;
}

/** Connects to a server's gRPC port. */
export function connect(server: { readonly grpcPort: number }): TestClient {
  const grpc = new GrpcClient({
    target: `127.0.0.1:${server.grpcPort}`,
    maxReceiveBytes: 2 ** 29,
  });
  const inference = new InferenceClient(async (path, message, options) =>
    (await grpc.unary(path, message, options)).message
  );
  return { inference, grpc, [Symbol.asyncDispose]: () => grpc.close() };
}
