import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { assertNoGrowth } from "../../../tests/harness/growth.ts";
import { notRun } from "../../../tests/harness/not_run.ts";
import { until } from "../../../tests/harness/until.ts";
import type { Http2Connection, Http2Stream, StreamListener } from "./types.ts";
import { dialHttp2 } from "./client.ts";
import type { OnStream } from "./frame_handler.ts";
import { type Http2Listener, type Http2ListenOptions, listenHttp2 } from "./server.ts";
import { concat, Recorder, settle } from "./test_support.ts";

const POST = [[":method", "POST"], [":scheme", "http"], [":path", "/"]] as const;

/** Sends back what it is sent, as it comes. */
const echo: OnStream = (stream, _headers, endStream) => {
  stream.sendHeaders([[":status", "200"]], endStream);
  return {
    onHeaders: () => stream.sendHeaders([["x", "y"]], true),
    onData: (chunk, isEnd) => {
      stream.consume(chunk.length);
      stream.sendData([chunk], isEnd);
      return true;
    },
    onEnd: () => {},
    onDrain: () => {},
  };
};

function listen(options: Http2ListenOptions = {}, onStream = echo): Http2Listener {
  return listenHttp2({ hostname: "127.0.0.1", port: 0 }, options, onStream);
}

/** One exchange; resolves with the bytes that came back. */
function exchange(connection: Http2Connection, body: readonly Uint8Array[]): Promise<Uint8Array> {
  const done = Promise.withResolvers<Uint8Array>();
  const recorder = new Recorder();
  const stream: Http2Stream = connection.open(POST, false, {
    onHeaders: (_headers, isEnd) => isEnd && done.resolve(concat(recorder.data)),
    onData: (chunk, isEnd) => {
      stream.consume(chunk.length);
      recorder.onData(chunk, isEnd);
      if (isEnd) done.resolve(concat(recorder.data));
      return false;
    },
    onEnd: (end) => done.reject(new Error(end.message)),
    onDrain: () => {},
  });
  stream.sendData(body, true);
  return done.promise;
}

function counting(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i % 251;
  return bytes;
}

function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** What a connection may leave behind: nothing, but caches and code take something meanwhile. */
const MEMORY_SLACK_BYTES = 256;

Deno.test("a listener echoes bodies of every size over TCP", async () => {
  const listener = listen();
  const connection = await dialHttp2(listener);
  const sizes = [0, 1, 16_384, 65_535, 1 << 20, 40 << 20];
  const answers = await Promise.all(
    sizes.map((size) => exchange(connection, [counting(size >> 1), counting(size - (size >> 1))])),
  );
  answers.forEach((answer, i) => {
    const size = sizes[i]!;
    const expected = concat([counting(size >> 1), counting(size - (size >> 1))]);
    assert.ok(Buffer.from(answer).equals(expected), `${size} bytes came back changed`);
  });
  await listener.shutdown(1000);
  await connection.closed;
});

Deno.test("a listener serves a Unix socket", async () => {
  const folder = await Deno.makeTempDir();
  const target = { path: `${folder}/http2.sock` };
  const listener = listenHttp2(target, {}, echo);
  const connection = await dialHttp2(target);
  assert.deepEqual(await exchange(connection, [counting(100_000)]), counting(100_000));
  await connection.drain();
  await listener.shutdown(1000);
  await Deno.remove(folder, { recursive: true });
});

/** A certificate for localhost, made by OpenSSL; undefined where there is none. */
async function makeCertificate(): Promise<{ cert: string; key: string } | undefined> {
  const folder = await Deno.makeTempDir();
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"];
  args.push("-keyout", `${folder}/key.pem`, "-out", `${folder}/cert.pem`);
  args.push("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1");
  args.push("-addext", "basicConstraints=critical,CA:FALSE");
  try {
    const { success } = await new Deno.Command("openssl", { args, stderr: "null" }).output();
    assert.ok(success);
    const [cert, key] = await Promise.all(
      ["cert", "key"].map((name) => Deno.readTextFile(`${folder}/${name}.pem`)),
    );
    return { cert: cert!, key: key! };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a listener serves TLS, refuses strangers, and gives up a handshake that does not come", async (t) => {
  const tls = await makeCertificate();
  if (tls === undefined) return await notRun(t, "TLS, there is no openssl");
  const failures: string[] = [];
  const onConnectionError = (message: string) => void failures.push(message);
  const address = { hostname: "localhost", port: 0, tls };
  const listener = listenHttp2(address, { onConnectionError }, echo);
  const target = { hostname: "localhost", port: listener.port };
  const connection = await dialHttp2({ ...target, tls: { caCerts: [tls.cert] } });
  assert.deepEqual(await exchange(connection, [counting(3_000_000)]), counting(3_000_000));
  await assert.rejects(dialHttp2({ ...target, tls: {} }), { status: "UNAVAILABLE" });
  await until(() => failures.length === 1, "the refusal is told");
  // Another one, since a machine may take this long over a handshake that comes.
  const hasty = listenHttp2(address, { onConnectionError, handshakeTimeoutMs: 200 }, echo);
  const silent = await Deno.connect({ hostname: "localhost", port: hasty.port });
  await until(() => failures.length === 2, "the timeout is told");
  silent.close();
  await hasty.shutdown(0);
  // Cut while it is open, from this end and from the other.
  const second = await dialHttp2({ ...target, tls: { caCerts: [tls.cert] } });
  second.destroy();
  await second.closed;
  await listener.shutdown(1000);
  await connection.closed;
});

Deno.test("shutdown() lets a stream finish within its grace, and cuts one that does not", async () => {
  let slow: Http2Stream | undefined;
  const listener = listen({}, (stream, headers, endStream, connection) => {
    slow = stream;
    return echo(stream, headers, endStream, connection);
  });
  const connection = await dialHttp2(listener);
  const recorder = new Recorder();
  connection.open(POST, false, recorder);
  await until(() => slow !== undefined, "the stream has arrived");
  const started = performance.now();
  await listener.shutdown(200);
  assert.ok(performance.now() - started >= 190);
  await connection.closed;
  await settle();
  assert.deepEqual(recorder.ends.map(({ cause }) => cause), ["connection"]);
  await assert.rejects(dialHttp2(listener), { status: "UNAVAILABLE" });
});

Deno.test("connections beyond the limit are closed at once", async () => {
  const listener = listen({ maxConnections: 1 });
  const first = await dialHttp2(listener);
  await exchange(first, [counting(1)]);
  const second = await dialHttp2(listener);
  await second.closed;
  assert.deepEqual(await exchange(first, [counting(10)]), counting(10));
  await listener.shutdown(1000);
  await first.closed;
});

Deno.test("a peer that ignores the end keeps nobody waiting, and counts until it is gone", async () => {
  const listener = listen({ maxConnections: 1 });
  const stubborn = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
  await until(() => listener.connections.size === 1, "it is accepted");
  const [connection] = listener.connections;
  connection!.destroy();
  await connection!.closed;
  await until(() => listener.connections.size === 0, "it is let go");
  // Its descriptor is still taken, so there is no room for another.
  const refused = await dialHttp2(listener);
  await refused.closed;
  stubborn.close();
  let answer: Uint8Array = new Uint8Array(0);
  await until(async () => {
    const next = await dialHttp2(listener);
    answer = await exchange(next, [counting(3)]).catch(() => answer);
    next.destroy();
    await next.closed;
    return answer.length > 0;
  }, "there is room again");
  assert.deepEqual(answer, counting(3));
  await listener.shutdown(1000);
});

Deno.test("dialHttp2() gives up when it is told to, or after its timeout", async () => {
  // A TLS handshake that never comes: the listener speaks cleartext and waits for the client.
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = silent.addr;
  const accepted = silent.accept();
  await assert.rejects(
    dialHttp2({ hostname: "127.0.0.1", port, tls: {} }, { connectTimeoutMs: 50 }),
    { status: "UNAVAILABLE", message: /no answer within 50 ms/ },
  );
  await assert.rejects(
    dialHttp2({ hostname: "127.0.0.1", port }, { signal: AbortSignal.abort(new Error("enough")) }),
    { status: "UNAVAILABLE", message: /enough/ },
  );
  (await accepted).close();
  silent.close();
});

Deno.test("other connections and timers have their turn while one keeps the server busy", async () => {
  const listener = listen();
  const busy = await dialHttp2(listener);
  const other = await dialHttp2(listener);
  let isOver = false;
  let served = 0;
  const load = Promise.all(Array.from({ length: 8 }, async () => {
    while (!isOver) {
      await exchange(busy, [new Uint8Array(1 << 20)]);
      served++;
    }
  }));
  // Counted in large exchanges, not in time, which says more about the machine.
  let most = 0;
  for (let i = 0; i < 20; i++) {
    const before = served;
    await exchange(other, [counting(10)]);
    await new Promise((resolve) => setTimeout(resolve, 1));
    most = Math.max(most, served - before);
  }
  isOver = true;
  await load;
  assert.ok(most < 100, `${most} large exchanges went before one small one`);
  await listener.shutdown(1000);
  await Promise.all([busy.closed, other.closed]);
});

Deno.test("10 000 connections come and go and leave nothing behind", async () => {
  const listener = listen();
  const visit = async () => {
    const connection = await dialHttp2(listener);
    assert.deepEqual(await exchange(connection, [counting(10)]), counting(10));
    await connection.drain();
  };
  const visitAll = async (count: number) => {
    for (let i = 0; i < count; i += 20) await Promise.all(Array.from({ length: 20 }, visit));
    await until(() => listener.connections.size === 0, "the listener has let them go");
  };
  await visitAll(1000);
  const descriptors = openDescriptors();
  await assertNoGrowth({
    what: "connections",
    perRound: 1800,
    round: async () => {
      await visitAll(1800);
      await until(() => openDescriptors() <= descriptors, "descriptors are back");
    },
    heapBytesEach: MEMORY_SLACK_BYTES,
    minRounds: 5,
  });
  await listener.shutdown(1000);
});

Deno.test("2000 abrupt disconnects under load leave nothing behind", async () => {
  let ends = 0;
  const listener = listen({}, (stream, headers, endStream, connection) => {
    const inner = echo(stream, headers, endStream, connection);
    const listener: StreamListener = {
      onHeaders: (trailers, isEnd) => inner.onHeaders(trailers, isEnd),
      onData: (chunk, isEnd) => inner.onData(chunk, isEnd),
      onEnd: () => ends++,
      onDrain: () => {},
    };
    return listener;
  });
  const steady = await dialHttp2(listener);
  const breakOff = async (i: number) => {
    const connection = await dialHttp2(listener);
    const calls = Array.from(
      { length: 4 },
      () => exchange(connection, [new Uint8Array(1000 + (i % 50) * 4000)]).catch(() => {}),
    );
    // At a different point each time: before anything was written, in the middle, near the end.
    for (let turn = 0; turn < i % 4; turn++) await settle(1);
    connection.destroy();
    await Promise.all(calls);
  };
  const breakAll = async (count: number) => {
    for (let i = 0; i < count; i += 10) {
      await Promise.all([
        ...Array.from({ length: 10 }, (_, at) => breakOff(i + at)),
        exchange(steady, [counting(5000)]),
      ]);
    }
    await until(() => listener.connections.size === 1, "only the steady one is left");
  };
  await breakAll(400);
  const descriptors = openDescriptors();
  await assertNoGrowth({
    what: "abrupt disconnects",
    perRound: 400,
    round: async () => {
      await breakAll(400);
      await until(() => openDescriptors() <= descriptors, "descriptors are back");
    },
    heapBytesEach: 4 * MEMORY_SLACK_BYTES,
    minRounds: 4,
  });
  assert.ok(ends > 100, `only ${ends} streams were cut`);
  assert.deepEqual(await exchange(steady, [counting(10)]), counting(10));
  await listener.shutdown(1000);
  await steady.closed;
});
