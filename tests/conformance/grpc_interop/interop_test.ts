/**
 * Our server and client against other implementations: grpcio and tritonclient (gRPC's C++ core),
 * grpcurl and ghz (Go), nghttp and h2load (nghttp2), curl, and grpc-js. What a machine lacks is printed
 * as not run. TLS is in `tls_test.ts`.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import {
  CallMetadata,
  GrpcClient,
  type GrpcServer,
  joinMessage,
  type Message,
  type TransportName,
} from "../../../src/transport/mod.ts";
import { runPython } from "../../harness/python.ts";
import { startEchoServer } from "./echo_server.ts";
import { goTool, lacksGoTool } from "../../harness/go_tools.ts";
import { isInstalled, lacks, PortProcess, runTool, testWith } from "./tools.ts";

const folder = "tests/conformance/grpc_interop";
const root = fileURLToPath(new URL("../../../", import.meta.url));
const python = `${root}.cache/venv/bin/python`;
const noPython = isInstalled(python, "-c", "import grpc, tritonclient.grpc")
  ? undefined
  : ".cache/venv has no grpcio and tritonclient";
const TRANSPORTS: readonly TransportName[] = ["native", "grpc-js"];

async function withServer(
  transport: TransportName,
  body: (server: GrpcServer) => Promise<void>,
): Promise<void> {
  const server = await startEchoServer(transport);
  try {
    await body(server);
  } finally {
    await server.shutdown(2000);
  }
}

async function python_(script: string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await runPython(`${folder}/${script}`, args);
  assert.equal(code, 0, stdout.split("\n").slice(-4).join("\n") + stderr);
}

testWith(
  noPython,
  "native server serves grpcio",
  () => withServer("native", (server) => python_("grpcio_client.py", String(server.port))),
);

for (const transport of TRANSPORTS) {
  testWith(
    noPython,
    `${transport} server serves tritonclient`,
    () => withServer(transport, (server) => python_("triton_client.py", String(server.port))),
  );
}

testWith(noPython, "one message of 512 MiB, and the memory it takes", async () => {
  const size = 512 << 20;
  const limit = 1.6 * size + (256 << 20);
  const peaks: number[] = [];
  // What a collection that came late leaves in one process, it does not leave in three.
  while (peaks.length < 3 && !peaks.some((peak) => peak < limit)) {
    const server = await PortProcess.start(Deno.execPath(), [
      ...["run", "-A", `${root}${folder}/echo_server.ts`, "native"],
    ]);
    try {
      await python_("grpcio_client.py", String(server.port), "--huge", String(size));
      const peak = await server.peakBytes();
      console.log(`peak memory of the server: ${(peak / size).toFixed(2)} of the message`);
      peaks.push(peak);
    } finally {
      await server.stop();
    }
  }
  assert.ok(peaks.some((peak) => peak < limit), `${peaks.join(", ")} bytes`);
});

testWith(noPython, "native client calls grpcio", async () => {
  const server = await PortProcess.start(python, [`${root}${folder}/grpcio_server.py`]);
  const client = new GrpcClient({
    target: `127.0.0.1:${server.port}`,
    maxReceiveBytes: 64 << 20,
  });
  try {
    await callEverything(client);
  } finally {
    await client.close();
    await server.stop();
  }
});

async function callEverything(client: GrpcClient): Promise<void> {
  for (const size of [0, 1, 3000, 16_384, 1 << 20, 32 << 20]) {
    const request = new Uint8Array(size).fill(size & 255);
    for (const compression of ["identity", "gzip"] as const) {
      const { message } = await client.unary("/t.T/Echo", [request], { compression });
      assert.ok(Buffer.from(joinMessage(message)).equals(request), `${size} ${compression}`);
    }
  }
  // More than the server's 20 streams at once: several connections, and some waiting.
  await Promise.all(
    Array.from({ length: 400 }, (_, index) => client.unary("/t.T/Echo", [new Uint8Array(index)])),
  );
  const metadata = CallMetadata.from([["x-sent", "a b"], ["x-sent-bin", Uint8Array.of(0, 255)]]);
  const response = await client.unary("/t.T/Meta", [], { metadata });
  assert.equal(response.headers.get("x-got"), "a b");
  assert.deepEqual(response.trailers.get("x-raw-bin"), Uint8Array.of(0, 255));
  let why: unknown;
  await assert.rejects(
    client.unary("/t.T/Refuse", [], { onTrailers: (trailers) => why = trailers.get("x-why") }),
    { status: "FAILED_PRECONDITION", message: "100% ƒ\n✓" },
  );
  assert.equal(why, "because");
  await assert.rejects(client.unary("/t.T/Nope", []), { status: "UNIMPLEMENTED" });
  await assert.rejects(
    client.unary("/t.T/Hang", [], { deadlineMs: performance.now() + 80 }),
    { status: "DEADLINE_EXCEEDED" },
  );
  await assert.rejects(
    client.unary("/t.T/Hang", [], { signal: AbortSignal.timeout(50) }),
    { status: "CANCELLED" },
  );
  const left = await client.unary("/t.T/TimeLeft", [], {
    deadlineMs: performance.now() + 3_600_000,
  });
  const seconds = Number(new TextDecoder().decode(joinMessage(left.message)));
  assert.ok(seconds > 3000 && seconds <= 3600.01, String(seconds));

  const requests = [0, 1, 70_000, 5, 300_000].map((size) => [new Uint8Array(size).fill(7)]);
  assert.deepEqual(await lengths(client.stream("/t.T/Bidi", requests)), [0, 1, 70_000, 5, 300_000]);
  const many: Message[] = Array(1500).fill([new Uint8Array(1000)]);
  assert.equal((await lengths(client.stream("/t.T/Bidi", many))).length, 1500);
  for await (const message of client.stream("/t.T/Count", many)) {
    assert.equal(new TextDecoder().decode(joinMessage(message)), "1500");
  }
  const seen: number[] = [];
  await assert.rejects(lengths(client.stream("/t.T/Fail", [[]]), seen), { status: "DATA_LOSS" });
  assert.deepEqual(seen, [1, 1]);
  let count = 0;
  for await (const _ of client.stream("/t.T/Forever", [[]])) if (++count === 30) break;
}

async function lengths(messages: AsyncIterable<Message>, into: number[] = []): Promise<number[]> {
  for await (const message of messages) into.push(joinMessage(message).length);
  return into;
}

for (const transport of TRANSPORTS) {
  testWith(
    lacksGoTool("grpcurl"),
    `${transport} server serves grpcurl`,
    () =>
      withServer(transport, async (server) => {
        const grpcurl = await goTool("grpcurl");
        const ask = (...args: string[]) =>
          runTool(grpcurl, [
            "-plaintext",
            ...args.slice(0, -1),
            `127.0.0.1:${server.port}`,
            args.at(-1)!,
          ]);
        const list = await ask("list");
        assert.deepEqual(list.stdout.trim().split("\n"), [
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
        ], list.stderr);
        assert.match(
          (await runTool(grpcurl, [
            ...["-plaintext", `127.0.0.1:${server.port}`, "describe", "grpc.health.v1.Health"],
          ])).stdout,
          /rpc Watch \( .grpc.health.v1.HealthCheckRequest \) returns \( stream/,
        );
        assert.match((await ask("grpc.health.v1.Health/Check")).stdout, /"status": "SERVING"/);
        assert.match((await ask("grpc.health.v1.Health/List")).stdout, /SERVING/);
        const unknown = await ask("-d", '{"service":"nope"}', "grpc.health.v1.Health/Check");
        assert.match(unknown.stderr, /Code: NotFound/);
        // A stream without an end: the time has to do for its first message, as it comes to the machine.
        let watch = await ask("-max-time", "0.3", "grpc.health.v1.Health/Watch");
        for (let seconds = 1; seconds <= 100 && watch.stdout === ""; seconds *= 10) {
          watch = await ask("-max-time", String(seconds), "grpc.health.v1.Health/Watch");
        }
        assert.match(watch.stdout, /SERVING/);
        assert.match(watch.stderr, /DeadlineExceeded/);
      }),
  );

  testWith(
    lacksGoTool("ghz"),
    `${transport} server serves ghz under load`,
    () =>
      withServer(transport, async (server) => {
        const { stdout, stderr } = await runTool(await goTool("ghz"), [
          ...["--insecure", "--call", "grpc.health.v1.Health/Check", "-d", "{}"],
          ...["-n", "4000", "-c", "40", "--connections", "4", "--format", "json"],
          `127.0.0.1:${server.port}`,
        ]);
        const report = JSON.parse(stdout || "{}");
        assert.deepEqual(report.statusCodeDistribution, { OK: 4000 }, stderr);
      }),
  );
}

/** One framed message, in a temporary file. */
async function framed(bytes: number): Promise<string> {
  const path = await Deno.makeTempFile();
  const body = new Uint8Array(5 + bytes).fill(65, 5);
  new DataView(body.buffer).setUint32(1, bytes);
  await Deno.writeFile(path, body);
  return path;
}

const GRPC_HEADERS = ["-H", "content-type: application/grpc", "-H", "te: trailers"];

testWith(
  lacks("curl"),
  "native server answers curl",
  () =>
    withServer("native", async (server) => {
      const path = await framed(100_000);
      const url = (method: string) => `http://127.0.0.1:${server.port}${method}`;
      const curl = (...args: string[]) =>
        runTool("curl", ["--http2-prior-knowledge", "-sS", "--max-time", "300", ...args]);
      const output = `${path}.out`;
      const echo = await curl(
        ...[
          "-D",
          "-",
          "-o",
          output,
          ...GRPC_HEADERS,
          "--data-binary",
          `@${path}`,
          url("/t.T/Echo"),
        ],
      );
      assert.match(echo.stdout, /HTTP\/2 200[^]*content-type: application\/grpc/, echo.stderr);
      assert.deepEqual(await Deno.readFile(output), await Deno.readFile(path));
      const get = await curl("-D", "-", url("/t.T/Echo"));
      assert.match(
        get.stdout,
        /HTTP\/2 405[^]*grpc-status: 13[^]*allow: POST|HTTP\/2 405[^]*allow: POST[^]*grpc-status: 13/,
      );
      const html = await curl("-D", "-", "-d", "x=1", url("/t.T/Echo"));
      assert.match(html.stdout, /HTTP\/2 415[^]*grpc-status: 13/);
      const timeout = await curl(
        ...["-D", "-", ...GRPC_HEADERS, "-H", "grpc-timeout: 5s", "--data-binary", `@${path}`],
        url("/t.T/Echo"),
      );
      assert.match(timeout.stdout, /HTTP\/2 200[^]*grpc-status: 3[^]*Malformed grpc-timeout/);
      const encoding = await curl(
        ...["-D", "-", ...GRPC_HEADERS, "-H", "grpc-encoding: br", "--data-binary", `@${path}`],
        url("/t.T/Echo"),
      );
      assert.match(
        encoding.stdout,
        /grpc-status: 12[^]*grpc-accept-encoding: identity,deflate,gzip/,
      );
      await Deno.remove(path);
      await Deno.remove(output);
    }),
);

testWith(
  lacks("nghttp"),
  "native server answers nghttp and h2load",
  () =>
    withServer("native", async (server) => {
      const path = await framed(20_000);
      const url = `http://127.0.0.1:${server.port}/t.T/Echo`;
      const nghttp = await runTool("nghttp", ["-nv", ...GRPC_HEADERS, "-d", path, url]);
      assert.match(nghttp.stdout, /:status: 200[^]*grpc-status: 0/);
      const padded = await runTool("nghttp", [
        "-nv",
        "-b",
        "200",
        ...GRPC_HEADERS,
        "-d",
        path,
        url,
      ]);
      assert.match(padded.stdout, /grpc-status: 0/);
      const load = await runTool("h2load", [
        ...["-n", "6000", "-c", "6", "-m", "25", ...GRPC_HEADERS, "-d", path, url],
      ]);
      assert.match(load.stdout, /6000 succeeded, 0 failed, 0 errored/, load.stdout + load.stderr);
      assert.match(load.stdout, /6000 2xx/);
      await Deno.remove(path);
    }),
);
