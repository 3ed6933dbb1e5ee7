/**
 * Peers that vanish: thousands of abrupt disconnects while calls go on, and thousands of connections
 * opened and closed. Afterwards descriptors and memory are back where they were, and no other caller
 * has noticed.
 */

import { contractMethods } from "../../src/transport/contract_methods.ts";
import { GrpcClient, type GrpcServer, serveGrpc } from "../../src/transport/mod.ts";
import { assertNoGrowth } from "../harness/growth.ts";
import { until } from "../harness/until.ts";

/** Connections of one round; at least 2000 in all, after the warm-up. */
const PER_ROUND = 500;
const MIN_ROUNDS = 4;
/** A connection that is kept holds two header tables and its buffers: tens of KiB. */
const LEFT_BEHIND = { heapBytesEach: 512, residentBytesEach: 8 << 10 };

function start(): Promise<GrpcServer> {
  return serveGrpc({
    transport: "native",
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: 1 << 20,
    maxSendBytes: 1 << 20,
    methods: contractMethods(),
  });
}

function descriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** The client preface, empty SETTINGS, and a header block for a streaming call (RFC 7541 literals). */
function request(path: string): Uint8Array {
  const text = new TextEncoder();
  const literal = (name: string, value: string) => [
    ...[0, name.length, ...text.encode(name), value.length, ...text.encode(value)],
  ];
  const block = [
    ...literal(":method", "POST"),
    ...literal(":scheme", "http"),
    ...literal(":path", path),
    ...literal("content-type", "application/grpc"),
  ];
  return Uint8Array.of(
    ...text.encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ...[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ...[0, 0, block.length, 1, 4, 0, 0, 0, 1, ...block],
    // Half of a message of 100 bytes.
    ...[0, 0, 55, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 100, ...new Uint8Array(50)],
  );
}

Deno.test("thousands of abrupt disconnects under load leave nothing behind", async () => {
  const server = await start();
  const client = new GrpcClient({ target: `127.0.0.1:${server.port}` });
  try {
    await client.connect();
    const message = [new Uint8Array(3000)];
    let served = 0;
    const paths = ["/t.T/Forever", "/t.T/Bidi", "/t.T/Hang", "/t.T/Nope"].map(request);
    const attack = async (count: number) => {
      for (let index = 0; index < count; index++) {
        const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
        const bytes = paths[index % paths.length]!;
        // Cut anywhere: inside the preface, a frame header, the header block, or after all of it.
        await conn.write(bytes.subarray(0, 1 + (index * 7) % bytes.length));
        if (index % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
        conn.close();
      }
    };
    const attackUnderLoad = async () => {
      let isDone = false;
      const load = Array.from({ length: 8 }, async () => {
        while (!isDone) {
          await client.unary("/t.T/EchoLater", message);
          served++;
        }
      });
      const before = served;
      await Promise.all(Array.from({ length: 4 }, () => attack(PER_ROUND / 4)));
      await until(() => served > before + 20, "calls are served meanwhile");
      isDone = true;
      await Promise.all(load);
      await until(() => server.activeCalls === 0, "calls of gone peers linger");
    };
    await attackUnderLoad();
    const before = descriptors();
    await assertNoGrowth({
      what: "abrupt disconnects",
      perRound: PER_ROUND,
      round: async () => {
        await attackUnderLoad();
        await until(() => descriptors() <= before, "descriptors are left open");
      },
      minRounds: MIN_ROUNDS,
      ...LEFT_BEHIND,
    });
  } finally {
    await client.close();
    await server.shutdown(1000);
  }
});

Deno.test("thousands of clients that come, call and go leave nothing behind", async () => {
  const server = await start();
  const visit = async (count: number) => {
    for (let index = 0; index < count; index++) {
      const client = new GrpcClient({ target: `127.0.0.1:${server.port}` });
      await client.unary("/t.T/Echo", [new Uint8Array(100)]);
      await client.close();
    }
  };
  const before = descriptors();
  const round = async () => {
    await Promise.all(Array.from({ length: 4 }, () => visit(PER_ROUND / 4)));
    await until(() => descriptors() <= before, "descriptors are left open");
  };
  try {
    await round();
    await assertNoGrowth({
      what: "visits",
      perRound: PER_ROUND,
      round,
      minRounds: MIN_ROUNDS,
      ...LEFT_BEHIND,
    });
  } finally {
    await server.shutdown(1000);
  }
});
