/**
 * What every transport's server does, as one suite. The client is `@grpc/grpc-js`: an implementation
 * that is not ours.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as grpc from "@grpc/grpc-js";
import { contractMethods } from "./contract_methods.ts";
import type { CallContext, GrpcServer, ServerOptions } from "./handler.ts";

const MAX_BYTES = 1 << 20;

/** One call as the client saw it end. */
interface Outcome {
  readonly code: number;
  readonly details: string;
  readonly messages: Buffer[];
  readonly headers: grpc.Metadata | undefined;
  readonly trailers: grpc.Metadata | undefined;
}

interface CallSetup {
  readonly requests?: Uint8Array[];
  readonly metadata?: grpc.Metadata;
  readonly options?: grpc.CallOptions;
  /** Cancels after this many responses; 0 as soon as the handler runs. */
  readonly cancelAfter?: number;
  /** Half-closes after this many responses, not at once. */
  readonly endAfter?: number;
}

/** A server with the methods of the suite, and a client of it. */
class Rig {
  readonly ended: string[] = [];
  readonly failures: unknown[] = [];
  /** Contexts of calls that reached a handler. */
  readonly seen: CallContext[] = [];
  readonly #arrivals: ((call: CallContext) => void)[] = [];
  server!: GrpcServer;
  client!: grpc.Client;

  async start(serve: (options: ServerOptions) => Promise<GrpcServer>): Promise<void> {
    this.server = await serve({
      hostname: "127.0.0.1",
      port: 0,
      methods: contractMethods({
        arrived: (call) => this.#arrived(call),
        bigBytes: MAX_BYTES + 1,
      }),
      maxReceiveBytes: MAX_BYTES,
      maxSendBytes: MAX_BYTES,
      onHandlerError: (error) => this.failures.push(error),
      onCallEnd: (path, status) => this.ended.push(`${path} ${status}`),
    });
    this.client = new grpc.Client(
      `127.0.0.1:${this.server.port}`,
      grpc.credentials.createInsecure(),
      { "grpc.max_receive_message_length": -1 },
    );
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.server.shutdown(1000);
    assert.equal(this.server.activeCalls, 0);
  }

  /** The next call to reach a handler. */
  arrival(): Promise<CallContext> {
    return new Promise((resolve) => this.#arrivals.push(resolve));
  }

  async call(path: string, setup: CallSetup = {}): Promise<Outcome> {
    const call = this.client.makeBidiStreamRequest<Uint8Array, Buffer>(
      path,
      (bytes) => Buffer.from(bytes),
      (bytes) => bytes,
      setup.metadata ?? new grpc.Metadata(),
      setup.options ?? {},
    );
    const messages: Buffer[] = [];
    let headers: grpc.Metadata | undefined;
    if (setup.cancelAfter === 0) void this.arrival().then(() => call.cancel());
    for (const request of setup.requests ?? [new Uint8Array(0)]) call.write(request);
    if (setup.endAfter === undefined) call.end();
    call.on("metadata", (metadata) => headers = metadata);
    call.on("data", (message: Buffer) => {
      messages.push(message);
      if (messages.length === setup.cancelAfter) call.cancel();
      if (messages.length === setup.endAfter) call.end();
    });
    call.on("error", () => {});
    const ended = new Promise<void>((resolve) => call.on("end", resolve));
    const status = await new Promise<grpc.StatusObject>((resolve) => call.on("status", resolve));
    // grpc-js tells the status while messages may still wait in the stream's buffer.
    await ended;
    return {
      code: status.code,
      details: status.details,
      messages,
      headers,
      trailers: status.metadata,
    };
  }

  #arrived(call: CallContext): void {
    this.seen.push(call);
    this.#arrivals.shift()?.(call);
  }
}

function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = index * 31 + (index >> 8);
  return bytes;
}

/** Waits for a condition that another task brings about. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Registers the suite for one transport. */
export function testServerContract(
  name: string,
  serve: (options: ServerOptions) => Promise<GrpcServer>,
): void {
  const check = (title: string, body: (rig: Rig) => Promise<void>) =>
    Deno.test(`${name} server: ${title}`, async () => {
      const rig = new Rig();
      await rig.start(serve);
      try {
        await body(rig);
      } finally {
        await rig.stop();
      }
    });

  check("echoes unary messages from empty to the limit", async (rig) => {
    for (const path of ["/t.T/Echo", "/t.T/EchoLater"]) {
      for (const size of [0, 1, 5, 3000, 16_379, 16_384, 65_536, 300_001, MAX_BYTES]) {
        const request = pattern(size);
        const { code, details, messages } = await rig.call(path, { requests: [request] });
        assert.equal(code, grpc.status.OK, details);
        assert.equal(messages.length, 1);
        assert.ok(Buffer.from(request).equals(messages[0]!), `${size} bytes`);
      }
    }
    assert.equal(rig.ended.length, 18);
    assert.ok(rig.ended.every((line) => line.endsWith(" OK")));
  });

  check("answers many calls at once, each its own", async (rig) => {
    const outcomes = await Promise.all(
      Array.from(
        { length: 200 },
        (_, index) =>
          rig.call(index % 2 ? "/t.T/Echo" : "/t.T/EchoLater", {
            requests: [pattern(index * 17)],
          }),
      ),
    );
    outcomes.forEach((outcome, index) => {
      assert.equal(outcome.code, grpc.status.OK);
      assert.ok(Buffer.from(pattern(index * 17)).equals(outcome.messages[0]!));
    });
  });

  check("carries metadata both ways, binary included", async (rig) => {
    const metadata = new grpc.Metadata();
    metadata.add("x-text", "one");
    metadata.add("x-text", "two words");
    metadata.add("x-raw-bin", Buffer.from([0, 255, 16, 44]));
    const { headers, trailers } = await rig.call("/t.T/Tags", { metadata });
    assert.deepEqual(headers!.get("x-text").join(", "), "one, two words");
    assert.deepEqual(headers!.get("x-raw-bin"), [Buffer.from([0, 255, 16, 44])]);
    assert.deepEqual(trailers!.get("x-raw-t-bin"), [Buffer.from([7])]);
    const seen = new Set([...rig.seen[0]!.metadata.entries()].map(([key]) => key));
    // grpc-js sends accept-encoding, which is HTTP's and not the transport's to hide.
    seen.delete("accept-encoding");
    assert.deepEqual([...seen].sort(), ["user-agent", "x-raw-bin", "x-text"]);
  });

  check("gives a ServerError its status and message", async (rig) => {
    const refused = await rig.call("/t.T/Refuse");
    assert.equal(refused.code, grpc.status.INVALID_ARGUMENT);
    assert.equal(refused.details, 'dtype "ƒ32" is 100% unknown\n✓');
    const later = await rig.call("/t.T/RefuseLater");
    assert.equal(later.code, grpc.status.ABORTED);
    assert.deepEqual(later.trailers!.get("x-why"), ["because"]);
    assert.equal(rig.failures.length, 0);
  });

  check("hides a defect and reports it", async (rig) => {
    const { code, details } = await rig.call("/t.T/Crash");
    assert.equal(code, grpc.status.INTERNAL);
    assert.ok(!details.includes("secret"), details);
    assert.equal((rig.failures[0] as Error).message, "secret detail");
    assert.deepEqual(rig.ended, ["/t.T/Crash INTERNAL"]);
  });

  check("ends a call at its deadline and aborts the handler", async (rig) => {
    // On a busy machine a call's time may be over before the server hears of it, or the client's end of it
    // may come before the server's own: then the next call has more time.
    for (let milliseconds = 80;; milliseconds *= 2) {
      rig.seen.length = rig.ended.length = 0;
      const started = performance.now();
      const { code } = await rig.call("/t.T/Hang", {
        options: { deadline: Date.now() + milliseconds },
      });
      assert.equal(code, grpc.status.DEADLINE_EXCEEDED);
      // One before may have come late, and be the only one that came.
      const call = rig.seen.at(-1);
      if (call === undefined || call.deadlineMs! <= started) continue;
      // The client's limit, as of its arrival here.
      assert.ok(call.deadlineMs! < performance.now() + milliseconds);
      await until(() => call.isAborted && rig.server.activeCalls === 0);
      if (call.signal.reason.status === "CANCELLED" && milliseconds < 5_000) continue;
      assert.equal(call.signal.reason.status, "DEADLINE_EXCEEDED");
      assert.equal(rig.ended.at(-1), "/t.T/Hang DEADLINE_EXCEEDED");
      return;
    }
  });

  check(
    "ends a call that its handler gives up at once, and drops what comes after that",
    async (rig) => {
      const { code, details, messages } = await rig.call("/t.T/GiveUp");
      assert.equal(code, grpc.status.DEADLINE_EXCEEDED);
      assert.deepEqual([details, messages], ["the device hangs", []]);
      assert.equal(rig.seen[0]!.isAborted, true);
      assert.equal(rig.seen[0]!.signal.reason.message, "the device hangs");
      await until(() => rig.server.activeCalls === 0);
      assert.deepEqual([rig.ended, rig.failures], [["/t.T/GiveUp DEADLINE_EXCEEDED"], []]);
      assert.equal((await rig.call("/t.T/Echo")).code, grpc.status.OK);
    },
  );

  check("aborts the handler when the caller cancels", async (rig) => {
    for (const [path, cancelAfter] of [["/t.T/Hang", 0], ["/t.T/Forever", 3]] as const) {
      const { code } = await rig.call(path, { cancelAfter });
      assert.equal(code, grpc.status.CANCELLED);
      const call = rig.seen.at(-1)!;
      await until(() => call.isAborted);
      assert.equal(call.signal.reason.status, "CANCELLED");
    }
    await until(() => rig.ended.length === 2);
    assert.deepEqual(rig.ended, ["/t.T/Hang CANCELLED", "/t.T/Forever CANCELLED"]);
    await until(() => rig.server.activeCalls === 0);
  });

  check("refuses messages over the limits", async (rig) => {
    const received = await rig.call("/t.T/Echo", { requests: [pattern(MAX_BYTES + 1)] });
    assert.equal(received.code, grpc.status.RESOURCE_EXHAUSTED, received.details);
    const sent = await rig.call("/t.T/Big");
    assert.equal(sent.code, grpc.status.RESOURCE_EXHAUSTED);
    assert.match(sent.details, /1048577 bytes.*limit of 1048576/);
  });

  check("answers UNIMPLEMENTED for unknown methods", async (rig) => {
    for (const path of ["/t.T/Nope", "/other.Service/Echo"]) {
      const { code } = await rig.call(path);
      assert.equal(code, grpc.status.UNIMPLEMENTED);
    }
  });

  check("streams in every direction", async (rig) => {
    const requests = [0, 1, 100, 20_000, 70_000, 3].map(pattern);
    const bidi = await rig.call("/t.T/Bidi", { requests });
    assert.equal(bidi.code, grpc.status.OK);
    assert.deepEqual(bidi.messages, requests.map((bytes) => Buffer.from(bytes)));
    const many = await rig.call("/t.T/Bidi", { requests: Array(500).fill(pattern(1000)) });
    assert.equal(many.messages.length, 500);
    const counted = await rig.call("/t.T/Count", { requests: Array(321).fill(pattern(9)) });
    assert.equal(counted.messages[0]!.toString(), "321");
    const none = await rig.call("/t.T/None", { requests: [] });
    assert.deepEqual([none.code, none.messages.length], [grpc.status.OK, 0]);
    const ignored = await rig.call("/t.T/IgnoreRequests", { requests });
    assert.deepEqual([ignored.code, ignored.messages.length], [grpc.status.OK, 1]);
  });

  check("delivers the messages before a stream's failure", async (rig) => {
    // A grpc-js client drops messages it has not handed out when a failure arrives: hence endAfter.
    const { code, details, messages } = await rig.call("/t.T/FailMidway", { endAfter: 2 });
    assert.deepEqual([code, details], [grpc.status.DATA_LOSS, "midway"]);
    assert.deepEqual(messages.map((message) => message[0]), [1, 2]);
  });

  check("lets calls finish while it shuts down, and no longer than the grace", async (rig) => {
    const arrived = rig.arrival();
    const outcome = rig.call("/t.T/Forever", { cancelAfter: 30 });
    await arrived;
    const done = rig.server.shutdown(5000);
    assert.equal((await outcome).code, grpc.status.CANCELLED);
    await done;
    const other = new Rig();
    await other.start(serve);
    const hanging = other.arrival();
    const cut = other.call("/t.T/Hang");
    const call = await hanging;
    const started = performance.now();
    await other.server.shutdown(50);
    assert.ok(performance.now() - started < 2000);
    assert.notEqual((await cut).code, grpc.status.OK);
    assert.ok(call.isAborted);
    await other.stop();
  });
}
