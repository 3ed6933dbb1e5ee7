/**
 * HPACK and whole connections against independent implementations: Python's `hpack` and `h2`. Random
 * header lists and table sizes go both ways from a printed seed.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { unless } from "../harness/not_run.ts";
import {
  dialHttp2,
  type HeaderField,
  type HeaderList,
  type Http2Stream,
  listenHttp2,
} from "../../src/transport/http2/mod.ts";
import { HpackDecoder } from "../../src/transport/http2/hpack_decoder.ts";
import { HpackEncoder } from "../../src/transport/http2/hpack_encoder.ts";
import { concat, hex, Recorder } from "../../src/transport/http2/test_support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const python = `${root}.cache/venv/bin/python`;
const missing = hasPythonPackages() ? undefined : ".cache/venv has no hpack and h2";

function hasPythonPackages(): boolean {
  try {
    return new Deno.Command(python, { args: ["-c", "import h2, hpack"] }).outputSync().success;
  } catch {
    return false;
  }
}

/** Runs a Python program with JSON in and out. */
async function runPython(program: string, input: unknown): Promise<unknown> {
  const child = new Deno.Command(python, {
    args: ["-c", program],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(input)));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** mulberry32: small, seeded, good enough to vary tests. */
function randomSource(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * below);
  };
}

/** A header block of a sequence, and the table size in force before it. */
interface Step {
  readonly tableBytes: number | null;
  readonly fields: [name: string, value: string, isSensitive: boolean][];
}

const NAMES = [
  ":path",
  ":authority",
  "content-type",
  "te",
  "user-agent",
  "grpc-timeout",
  "grpc-status",
  "x-a",
  "x-request-id",
  "accept-encoding",
  "cookie",
];

function randomSteps(seed: number, count: number): Step[] {
  const random = randomSource(seed);
  const text = (length: number) =>
    String.fromCharCode(
      ...Array.from(
        { length },
        () => random(20) === 0 ? 0xa1 + random(0x5e) : 0x21 + random(0x5e),
      ),
    );
  return Array.from({ length: count }, () => ({
    tableBytes: random(6) === 0 ? [0, 31, 64, 200, 1000, 4096][random(6)]! : null,
    fields: Array.from({ length: random(12) }, () => {
      const name = random(8) === 0 ? `x-${random(1000)}` : NAMES[random(NAMES.length)]!;
      const value = random(3) === 0 ? text(random(random(20) === 0 ? 5000 : 60)) : `v${random(5)}`;
      return [name, value, random(10) === 0];
    }),
  }));
}

const DECODE = `
import sys, json, hpack
steps = json.load(sys.stdin)
decoder = hpack.Decoder(max_header_list_size=1 << 24)
out = []
for step in steps:
    if step["tableBytes"] is not None:
        decoder.max_allowed_table_size = step["tableBytes"]
    fields = decoder.decode(bytes.fromhex(step["hex"]), raw=True)
    out.append([[n.decode("latin-1"), v.decode("latin-1"), not getattr(f, "indexable", True)]
                for f in fields for n, v in [f]])
json.dump(out, sys.stdout)
`;

const ENCODE = `
import sys, json, hpack
steps = json.load(sys.stdin)
encoder = hpack.Encoder()
out = []
for i, step in enumerate(steps):
    if step["tableBytes"] is not None:
        encoder.header_table_size = step["tableBytes"]
    fields = [(n.encode("latin-1"), v.encode("latin-1"), s) for n, v, s in step["fields"]]
    out.append(encoder.encode(fields, huffman=i % 3 != 0).hex())
json.dump(out, sys.stdout)
`;

Deno.test({
  ...unless(missing, "HpackEncoder is understood by Python's hpack"),
  fn: async () => {
    const steps = randomSteps(1, 2000);
    const encoder = new HpackEncoder();
    const input = steps.map(({ tableBytes, fields }) => {
      if (tableBytes !== null) encoder.setMaxTableBytes(tableBytes);
      const list: HeaderList = fields.map(([name, value, isSensitive]): HeaderField =>
        isSensitive ? [name, value, true] : [name, value]
      );
      const length = encoder.encode(list);
      const text = [...encoder.bytes.subarray(0, length)].map((byte) =>
        byte.toString(16).padStart(2, "0")
      ).join("");
      return { tableBytes, hex: text };
    });
    const expected = steps.map(({ fields }) =>
      fields.map(([name, value, isSensitive]) => [name, value, isSensitive || name === "cookie"])
    );
    assert.deepEqual(await runPython(DECODE, input), expected);
  },
});

Deno.test({
  ...unless(missing, "HpackDecoder understands Python's hpack"),
  fn: async () => {
    const steps = randomSteps(2, 2000);
    const blocks = await runPython(ENCODE, steps) as string[];
    const decoder = new HpackDecoder(1 << 24);
    blocks.forEach((block, i) => {
      const bytes = hex(block);
      const { headers } = decoder.decode(bytes, 0, bytes.length);
      // Python uses a table entry for a sensitive field it finds there, so the mark may be lost.
      const fields = headers.map(([name, value]) => [name, value]);
      const expected = steps[i]!.fields.map(([name, value]) => [name, value]);
      assert.deepEqual(fields, expected, `block ${i}`);
    });
  },
});

// Sends three requests at once (one with a header block that needs CONTINUATION) and collects answers.
const H2_CLIENT = `
import sys, json, socket, h2.connection, h2.events
port = json.load(sys.stdin)
sock = socket.create_connection(("127.0.0.1", port))
conn = h2.connection.H2Connection()
conn.initiate_connection()
sock.sendall(conn.data_to_send())
bodies = {}
def request(path, extra, size):
    sid = conn.get_next_available_stream_id()
    conn.send_headers(sid, [(":method", "POST"), (":scheme", "http"), (":path", path),
        (":authority", "test"), ("te", "trailers")] + extra)
    bodies[sid] = bytes(i % 251 for i in range(size))
    return sid
sids = [request("/a", [], 0), request("/b", [("x-large", "y" * 30000)], 10), request("/c", [], 200000)]
answers = {sid: {"headers": [], "bytes": 0, "same": True, "trailers": []} for sid in sids}
open_sids, position = set(sids), dict.fromkeys(sids, 0)
def pump():
    for sid in sids:
        if position[sid] is None: continue
        body = bodies[sid]
        while position[sid] < len(body):
            n = min(conn.local_flow_control_window(sid) - 8, conn.max_outbound_frame_size - 8, len(body) - position[sid], 9000)
            if n <= 0: break
            conn.send_data(sid, body[position[sid]:position[sid] + n], pad_length=n % 7)
            position[sid] += n
        if position[sid] == len(body):
            conn.end_stream(sid)
            position[sid] = None
pump()
sock.sendall(conn.data_to_send())
while open_sids:
    data = sock.recv(65536)
    assert data, "closed early"
    for event in conn.receive_data(data):
        if isinstance(event, h2.events.ResponseReceived):
            answers[event.stream_id]["headers"] = [[n.decode(), v.decode()] for n, v in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            a = answers[event.stream_id]
            start = a["bytes"]
            a["bytes"] += len(event.data)
            a["same"] = a["same"] and bodies[event.stream_id][start:a["bytes"]] == event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answers[event.stream_id]["trailers"] = [[n.decode(), v.decode()] for n, v in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            open_sids.discard(event.stream_id)
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            raise SystemExit("reset: %r" % event)
    pump()
    sock.sendall(conn.data_to_send())
conn.close_connection()
sock.sendall(conn.data_to_send())
sock.close()
json.dump([answers[sid] for sid in sids], sys.stdout)
`;

/** Sends back what it got: the path and the length of one header in front, a trailer behind. */
function echo(stream: Http2Stream, headers: HeaderList, endStream: boolean) {
  const valueOf = (name: string) => headers.find((field) => field[0] === name)?.[1] ?? "";
  stream.sendHeaders([
    [":status", "200"],
    ["x-path", valueOf(":path")],
    ["x-large", String(valueOf("x-large").length)],
  ], false);
  const finish = () => stream.sendHeaders([["x-end", "yes"]], true);
  if (endStream) finish();
  return {
    onHeaders: () => finish(),
    onData: (chunk: Uint8Array, isEnd: boolean) => {
      stream.consume(chunk.length);
      stream.sendData([chunk], false);
      if (isEnd) finish();
      return true;
    },
    onEnd: () => {},
    onDrain: () => {},
  };
}

Deno.test({
  ...unless(
    missing,
    "the server talks to Python's h2: padding, CONTINUATION, flow control, trailers",
  ),
  fn: async () => {
    const listener = listenHttp2({ hostname: "127.0.0.1", port: 0 }, {}, echo);
    try {
      const answers = await runPython(H2_CLIENT, listener.port);
      const expected = [["/a", 0, 0], ["/b", 30_000, 10], ["/c", 0, 200_000]] as const;
      assert.deepEqual(
        answers,
        expected.map(([path, large, bytes]) => ({
          headers: [[":status", "200"], ["x-path", path], ["x-large", String(large)]],
          bytes,
          same: true,
          trailers: [["x-end", "yes"]],
        })),
      );
    } finally {
      await listener.shutdown(1000);
    }
  },
});

// Echoes whole bodies, with the smallest windows h2 can have, until the client goes away.
const H2_SERVER = `
import sys, json, socket, h2.connection, h2.config, h2.events, h2.settings
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
conn.local_settings.update({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000,
                            h2.settings.SettingCodes.HEADER_TABLE_SIZE: 100})
conn.initiate_connection()
sock.sendall(conn.data_to_send())
bodies, waiting = {}, {}
def pump():
    for sid in list(waiting):
        body = waiting[sid]
        while body:
            n = min(conn.local_flow_control_window(sid), conn.max_outbound_frame_size, len(body))
            if n <= 0: break
            conn.send_data(sid, body[:n])
            body = body[n:]
        waiting[sid] = body
        if not body:
            conn.send_headers(sid, [("x-end", "yes")], end_stream=True)
            del waiting[sid]
while True:
    data = sock.recv(65536)
    if not data: break
    for event in conn.receive_data(data):
        if isinstance(event, h2.events.RequestReceived):
            bodies[event.stream_id] = b""
            conn.send_headers(event.stream_id, [(":status", "200"), ("x-path", dict(event.headers)[b":path"])])
        elif isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] += event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            waiting[event.stream_id] = bodies[event.stream_id]
    pump()
    sock.sendall(conn.data_to_send())
`;

Deno.test({
  ...unless(missing, "the client talks to Python's h2 through a window of 1000 bytes"),
  fn: async () => {
    const child = new Deno.Command(python, {
      args: ["-c", H2_SERVER],
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    const port = Number(new TextDecoder().decode((await reader.read()).value));
    const connection = await dialHttp2({ hostname: "127.0.0.1", port });
    const calls = [0, 10, 50_000].map((size) => {
      const done = Promise.withResolvers<void>();
      const recorder = new Recorder();
      const body = Uint8Array.from({ length: size }, (_, i) => i % 251);
      const stream = connection.open(
        [[":method", "POST"], [":scheme", "http"], [":path", `/${size}`], [":authority", "t"]],
        false,
        {
          onHeaders: (headers, endStream) => {
            recorder.onHeaders(headers, endStream);
            if (endStream) done.resolve();
          },
          onData: (chunk, endStream) => {
            stream.consume(chunk.length);
            return recorder.onData(chunk, endStream);
          },
          onEnd: (end) => done.reject(new Error(end.message)),
          onDrain: () => recorder.onDrain(),
        },
      );
      stream.sendData([body.subarray(0, size >> 1), body.subarray(size >> 1)], true);
      return { done: done.promise, recorder, body };
    });
    for (const { done, recorder, body } of calls) {
      await done;
      assert.deepEqual(recorder.headers.map(({ headers }) => headers), [
        [[":status", "200"], ["x-path", `/${body.length}`]],
        [["x-end", "yes"]],
      ]);
      assert.deepEqual(concat(recorder.data), body);
    }
    await connection.drain();
    assert.ok((await child.status).success);
    await reader.cancel();
  },
});
