import assert from "node:assert/strict";
import { LineSplitter } from "./line_splitter.ts";
import { LogPump } from "./log_pump.ts";
import { LogSink } from "./log_sink.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (lines: readonly Uint8Array[]) => lines.map((line) => new TextDecoder().decode(line));

/** A sink into memory; `open()` lets it write when it starts closed. */
function memorySink(options: { isOpen?: boolean; maxBytes?: number; stallMs?: number } = {}) {
  const gate = Promise.withResolvers<void>();
  if (options.isOpen ?? true) gate.resolve();
  const written: Uint8Array[] = [];
  const sink = new LogSink({
    // Takes odd amounts, as a pipe does.
    write: async (block) => {
      await gate.promise;
      const size = Math.min(block.length, 37);
      written.push(block.slice(0, size));
      return size;
    },
    ...options,
  });
  const output = () => new TextDecoder().decode(Uint8Array.from(written.flatMap((b) => [...b])));
  return { sink, open: gate.resolve, output };
}

Deno.test("LineSplitter gives whole lines however the bytes are cut", () => {
  const whole = bytes('first\n\n{"a":"ü€😀"}\r\nlast');
  for (let size = 1; size <= whole.length; size++) {
    const splitter = new LineSplitter();
    const lines: Uint8Array[] = [];
    for (let at = 0; at < whole.length; at += size) {
      // One buffer for all chunks, as a reader may have.
      const chunk = whole.slice(at, at + size);
      lines.push(...splitter.push(chunk));
      chunk.fill(0);
    }
    assert.deepEqual(text([...lines, ...splitter.end()]), ["first", "", '{"a":"ü€😀"}', "last"]);
  }
  assert.deepEqual(new LineSplitter().end(), []);
});

Deno.test("LineSplitter cuts long lines between characters and replaces what is no UTF-8", () => {
  const splitter = new LineSplitter(10);
  const lines = [...splitter.push(bytes("€".repeat(8))), ...splitter.push(bytes("\nok\n"))];
  assert.deepEqual(text(lines), ["€€€", "€€€", "€€", "ok"]);
  const broken = new LineSplitter();
  const [line] = broken.push(Uint8Array.of(65, 0xff, 0xc3, 66, 10));
  assert.equal(text([line!])[0], "A\ufffd\ufffdB");
  const noise = new LineSplitter(16);
  const pieces = noise.push(new Uint8Array(100).fill(0x80));
  assert.ok(pieces.every((piece) => piece.length <= 16 * 3));
  assert.equal(text([...pieces, ...noise.end()]).join(""), "\ufffd".repeat(100));
});

Deno.test("LogSink writes lines whole, in order, each with its prefix", async () => {
  const { sink, output } = memorySink();
  for (let index = 0; index < 50; index++) {
    await sink.line(`[w${index % 3}] `, index % 2 === 0 ? `line ${index}` : bytes(`line ${index}`));
  }
  assert.equal(await sink.flush(10_000), true);
  const expected = Array.from({ length: 50 }, (_, index) => `[w${index % 3}] line ${index}\n`);
  assert.equal(output(), expected.join(""));
});

Deno.test("LogSink makes writers wait while output is slow, and loses nothing", async () => {
  const { sink, open, output } = memorySink({ isOpen: false, maxBytes: 20, stallMs: 1e8 });
  assert.equal(sink.line("", "0123456789"), undefined);
  assert.equal(sink.line("", "0123456789"), undefined);
  let isThrough = false;
  const third = sink.line("", "third")?.then(() => isThrough = true);
  assert.ok(third);
  await Promise.resolve();
  assert.equal(isThrough, false);
  open();
  await third;
  await sink.flush(10_000);
  assert.equal(output(), "0123456789\n0123456789\nthird\n");
});

Deno.test("LogSink drops what does not fit while output stands still, and says how much", async () => {
  const { sink, open, output } = memorySink({ isOpen: false, maxBytes: 20, stallMs: 1 });
  sink.line("", "0123456789");
  sink.line("", "0123456789");
  await sink.line("", "dropped");
  assert.equal(sink.line("", "dropped"), undefined);
  assert.equal(await sink.flush(1), false);
  open();
  await sink.flush(10_000);
  assert.equal(output(), "0123456789\n0123456789\n2 log lines were dropped\n");
});

Deno.test("LogSink does not let a reader that barely reads set the pace", async () => {
  let isOpen = false;
  const sink = new LogSink({
    // A byte now and then is progress, but not enough.
    write: (block) => {
      if (isOpen) return Promise.resolve(block.length);
      return new Promise((resolve) => setTimeout(() => resolve(1), 1));
    },
    maxBytes: 20,
    stallMs: 20,
    describeLoss: (lines) => `lost ${lines}`,
  });
  sink.line("", "x".repeat(100_000));
  await sink.line("", "dropped");
  assert.equal(sink.line("", "dropped"), undefined);
  isOpen = true;
  assert.equal(await sink.flush(10_000), true);
});

Deno.test("LogSink writes a line that is added in any turn of the loop", async () => {
  const { sink, output } = memorySink();
  let expected = "";
  for (let turns = 0; turns < 30; turns++) {
    await sink.line("", "a");
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    await sink.line("", "b");
    assert.equal(await sink.flush(10_000), true);
    expected += "a\nb\n";
    assert.equal(output(), expected, `after ${turns} turns`);
  }
});

Deno.test("LogSink goes on without output when nobody reads any more", async () => {
  const sink = new LogSink({ write: () => Promise.reject(new Deno.errors.BrokenPipe()) });
  sink.line("", "lost");
  assert.equal(await sink.flush(10_000), true);
  assert.equal(sink.line("", "lost"), undefined);
});

Deno.test("LogSink tries again when the disk was full, and says what did not fit meanwhile", async () => {
  const full = Object.assign(new Error("No space left on device"), { code: "ENOSPC" });
  let isFull = true;
  let output = "";
  const sink = new LogSink({
    write: (block) => {
      if (isFull) return Promise.reject(full);
      output += new TextDecoder().decode(block);
      return Promise.resolve(block.length);
    },
    maxBytes: 10,
    stallMs: 1,
    retryMs: 1,
  });
  sink.line("", "0123456789");
  await sink.line("", "dropped");
  isFull = false;
  assert.equal(await sink.flush(10_000), true);
  assert.equal(output, "0123456789\n1 log lines were dropped\n");
});

Deno.test("LogPump passes on every stream, unfinished lines too, and remembers the last", async () => {
  const { sink, output } = memorySink();
  const pump = new LogPump(sink, "worker0");
  pump.add(ReadableStream.from([bytes("a\nb"), bytes("c\n"), bytes("last words")]));
  await pump.finish(10_000);
  await sink.flush(10_000);
  assert.equal(output(), "[worker0] a\n[worker0] bc\n[worker0] last words\n");
  assert.equal(pump.lastLine, "last words");
});

Deno.test("LogPump waits no longer for a slow output than for a stream, and still passes all on", async () => {
  const { sink, open, output } = memorySink({ isOpen: false, maxBytes: 5, stallMs: 1e8 });
  const pump = new LogPump(sink, "w");
  pump.add(ReadableStream.from([bytes("first\nsecond\n")]));
  assert.equal(await pump.finish(1), false);
  open();
  await sink.line("", "later");
  await sink.flush(10_000);
  assert.equal(output(), "[w] first\n[w] second\nlater\n");
});

Deno.test("LogPump closes a stream that stays open after its child", async () => {
  const { sink, output } = memorySink();
  const pump = new LogPump(sink, "w");
  let isCancelled = false;
  pump.add(
    new ReadableStream({
      start: (controller) => controller.enqueue(bytes("before\nhalf")),
      cancel: () => void (isCancelled = true),
    }),
  );
  await pump.finish(1);
  await sink.flush(10_000);
  assert.deepEqual([isCancelled, output()], [true, "[w] before\n[w] half\n"]);
});
