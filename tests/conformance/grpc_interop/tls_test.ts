/** TLS both ways with the certificates openssl makes, and mutual TLS, which grpc-js serves. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { GrpcClient, joinMessage } from "../../../src/transport/mod.ts";
import { runPython } from "../../harness/python.ts";
import { startEchoServer } from "./echo_server.ts";
import {
  type Certificates,
  isInstalled,
  lacks,
  makeCertificates,
  PortProcess,
  runTool,
  testWith,
} from "./tools.ts";

const folder = "tests/conformance/grpc_interop";
const root = fileURLToPath(new URL("../../../", import.meta.url));
const python = `${root}.cache/venv/bin/python`;
const noOpenssl = lacks("openssl", "version");
const noPython = isInstalled(python, "-c", "import grpc") ? undefined : ".cache/venv has no grpcio";

async function withCertificates(
  body: (certificates: Certificates) => Promise<void>,
): Promise<void> {
  const certificates = await makeCertificates();
  try {
    await body(certificates);
  } finally {
    await Deno.remove(certificates.directory, { recursive: true });
  }
}

testWith(
  noOpenssl,
  "native client and server speak TLS with each other",
  () =>
    withCertificates(async ({ ca, cert, key }) => {
      const server = await startEchoServer("native", { tls: { cert, key } });
      const large = new Uint8Array(5_000_000).fill(9);
      const trusting = new GrpcClient({
        target: `localhost:${server.port}`,
        tls: { ca },
        maxReceiveBytes: 8 << 20,
      });
      const distrusting = new GrpcClient({ target: `localhost:${server.port}`, tls: {} });
      const misnamed = new GrpcClient({
        target: `127.0.0.1:${server.port}`,
        tls: { ca, serverName: "elsewhere.example" },
      });
      const plain = new GrpcClient({ target: `127.0.0.1:${server.port}` });
      try {
        const { message } = await trusting.unary("/t.T/Echo", [large]);
        assert.ok(Buffer.from(joinMessage(message)).equals(large));
        for (const client of [distrusting, misnamed, plain]) {
          await assert.rejects(client.unary("/t.T/Echo", []), { status: "UNAVAILABLE" });
        }
        assert.equal((await trusting.unary("/t.T/Echo", [])).message.length, 1);
      } finally {
        await Promise.all([trusting, distrusting, misnamed, plain].map((client) => client.close()));
        await server.shutdown(1000);
      }
    }),
);

testWith(
  noOpenssl ?? noPython,
  "native server serves grpcio over TLS",
  () =>
    withCertificates(async ({ directory, cert, key }) => {
      const server = await startEchoServer("native", { tls: { cert, key } });
      const { code, stdout, stderr } = await runPython(`${folder}/grpcio_client.py`, [
        ...[String(server.port), "--ca", `${directory}/ca.pem`],
      ]);
      await server.shutdown(1000);
      assert.equal(code, 0, stdout.split("\n").slice(-4).join("\n") + stderr);
    }),
);

testWith(
  noOpenssl ?? noPython,
  "native client calls grpcio over TLS",
  () =>
    withCertificates(async ({ directory, ca }) => {
      const server = await PortProcess.start(python, [
        `${root}${folder}/grpcio_server.py`,
        ...["--cert", `${directory}/server.pem`, "--key", `${directory}/server.key`],
      ]);
      const client = new GrpcClient({ target: `localhost:${server.port}`, tls: { ca } });
      try {
        const request = new Uint8Array(3_000_000).fill(5);
        const { message } = await client.unary("/t.T/Echo", [request]);
        assert.ok(Buffer.from(joinMessage(message)).equals(request));
      } finally {
        await client.close();
        await server.stop();
      }
    }),
);

testWith(
  noOpenssl ?? lacks("curl"),
  "curl and the server agree on h2 by ALPN",
  () =>
    withCertificates(async ({ directory, cert, key }) => {
      const server = await startEchoServer("native", { tls: { cert, key } });
      const { stdout, stderr } = await runTool("curl", [
        ...["-sS", "--cacert", `${directory}/ca.pem`, "-D", "-"],
        `https://localhost:${server.port}/t.T/Echo`,
      ]);
      await server.shutdown(1000);
      assert.match(stdout, /HTTP\/2 405/, stderr);
    }),
);

testWith(
  noOpenssl,
  "a client certificate is asked for, whatever transport is named",
  () =>
    withCertificates(async ({ ca, cert, key, clientCert, clientKey }) => {
      const server = await startEchoServer("native", { tls: { cert, key, clientCa: ca } });
      const call = (credentials: grpc.ChannelCredentials) => {
        const client = new grpc.Client(`localhost:${server.port}`, credentials);
        return new Promise<Buffer>((resolve, reject) =>
          client.makeUnaryRequest(
            "/t.T/Echo",
            (bytes: Buffer) => bytes,
            (bytes: Buffer) => bytes,
            Buffer.from("hello"),
            new grpc.Metadata(),
            { deadline: Date.now() + 300_000 },
            (error, response) => {
              client.close();
              if (error) reject(error);
              else resolve(response!);
            },
          )
        );
      };
      try {
        const known = grpc.credentials.createSsl(
          Buffer.from(ca),
          Buffer.from(clientKey),
          Buffer.from(clientCert),
        );
        assert.equal((await call(known)).toString(), "hello");
        await assert.rejects(call(grpc.credentials.createSsl(Buffer.from(ca))));
      } finally {
        await server.shutdown(1000);
      }
    }),
  // A grpc-js channel that could not connect leaves its backoff timer behind.
  { sanitizeOps: false, sanitizeResources: false },
);
