/** TLS on both sides of the gateway: what it is told to do, it does, and nothing less. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as grpc from "@grpc/grpc-js";
import { FakeWorker, INFER, inferRequest, startTestGateway } from "../../src/gateway/testing.ts";
import { GrpcClient } from "../../src/transport/mod.ts";
import { lacks, makeCertificates } from "../conformance/grpc_interop/tools.ts";
import { unless } from "../harness/not_run.ts";

Deno.test({
  ...unless(
    lacks("openssl", "version"),
    "a gateway serves TLS, asks for client certificates, and checks its workers'",
  ),
  // grpc-js, which serves client certificates, closes its sockets a turn later than it says.
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async (t) => {
    const certificates = await makeCertificates();
    const { directory, ca, cert, key, clientCert, clientKey } = certificates;
    try {
      await using worker = await FakeWorker.start({ tls: { cert, key } });
      const pem = (name: string) => JSON.stringify(`${directory}/${name}.pem`);
      const listener = `cert_file: ${pem("server")}, key_file: "${directory}/server.key"`;
      const toWorkers = `worker_client: {tls: {enabled: true, ca_file: ${pem("ca")}}}`;

      await t.step("cleartext and strangers are refused, TLS is served", async () => {
        await using gateway = await startTestGateway({
          endpoints: [worker.id],
          yaml: `tls: {${listener}}\n${toWorkers}`,
        });
        const target = `localhost:${gateway.grpcPort}`;
        const trusting = new GrpcClient({ target, tls: { ca } });
        const distrusting = new GrpcClient({ target, tls: {} });
        try {
          const { message } = await trusting.unary(INFER, inferRequest("m"));
          assert.ok(message.length > 0);
          await assert.rejects(distrusting.unary(INFER, inferRequest("m")), {
            status: "UNAVAILABLE",
          });
          await assert.rejects(gateway.infer("m"), { status: "UNAVAILABLE" });
        } finally {
          await Promise.all([trusting.close(), distrusting.close()]);
        }
      });

      await t.step("a worker whose certificate is not trusted gets no request", async () => {
        await using gateway = await startTestGateway({
          endpoints: [worker.id],
          yaml: "worker_client: {tls: {enabled: true}}",
          untilReady: false,
        });
        await assert.rejects(gateway.infer("m"));
        assert.equal((await gateway.http("/readyz")).status, 503);
      });

      await t.step("with client_ca_file only clients with a certificate are served", async () => {
        await using gateway = await startTestGateway({
          endpoints: [worker.id],
          yaml: `tls: {${listener}, client_ca_file: ${pem("ca")}}\n${toWorkers}`,
        });
        const target = `localhost:${gateway.grpcPort}`;
        const call = (credentials: grpc.ChannelCredentials) => {
          const client = new grpc.Client(target, credentials);
          return new Promise<Buffer>((resolve, reject) => {
            const bytes = (value: Buffer) => value;
            client.makeUnaryRequest(
              INFER,
              bytes,
              bytes,
              Buffer.from(inferRequest("m")[0]!),
              { deadline: Date.now() + 300_000 },
              (error, value) => {
                client.close();
                if (error) reject(error);
                else resolve(value!);
              },
            );
          });
        };
        const withCertificate = grpc.credentials.createSsl(
          Buffer.from(ca),
          Buffer.from(clientKey),
          Buffer.from(clientCert),
        );
        assert.ok((await call(withCertificate)).length > 0);
        await assert.rejects(call(grpc.credentials.createSsl(Buffer.from(ca))));
      });
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
