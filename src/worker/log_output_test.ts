import assert from "node:assert/strict";
import { LogOutput } from "./log_output.ts";

/** A reader that takes nothing until `reads` is set, as a pipe does: a piece at a time. */
function setUp() {
  const reader = { reads: true, got: "", losses: [] as number[] };
  const output = new LogOutput({
    onLoss: (lines) => {
      reader.losses.push(lines);
      output.line("lost some");
    },
    isWritable: () => reader.reads,
    write: (bytes) => {
      if (!reader.reads) throw new Error("this write would have blocked");
      reader.got += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  });
  return { reader, output };
}

Deno.test("line() has written when it returns, long lines too", () => {
  const { reader, output } = setUp();
  const long = "x".repeat(10_000);
  output.line("first");
  output.line(long);
  assert.equal(reader.got, `first\n${long}\n`);
});

Deno.test("lines wait for a reader that has stopped, in order, and later ones go behind them", async () => {
  const { reader, output } = setUp();
  reader.reads = false;
  output.line("a");
  output.line("b");
  reader.reads = true;
  output.line("c");
  assert.equal(reader.got, "a\nb\nc\n");
  reader.reads = false;
  output.line("d");
  reader.reads = true;
  await output.drain(60_000);
  assert.equal(reader.got, "a\nb\nc\nd\n");
  assert.deepEqual(reader.losses, []);
});

Deno.test("lines beyond a MiB are dropped and counted, and the count follows those that waited", async () => {
  const { reader, output } = setUp();
  reader.reads = false;
  const line = "x".repeat(1023);
  for (let count = 0; count < 1024 + 7; count++) output.line(line);
  reader.reads = true;
  await output.drain(60_000);
  assert.deepEqual(reader.losses, [7]);
  assert.equal(reader.got, `${line}\n`.repeat(1024) + "lost some\n");
});

Deno.test("drain() gives up on a reader that does not come back", async () => {
  const { reader, output } = setUp();
  reader.reads = false;
  output.line("last words");
  await output.drain(1);
  assert.equal(reader.got, "");
});

Deno.test("a standard error that is closed or full costs the line and nothing else", () => {
  let failures = 0;
  const output = new LogOutput({
    onLoss: () => assert.fail("nothing waited"),
    isWritable: () => true,
    write: () => {
      failures++;
      throw new Error("ENOSPC");
    },
  });
  output.line("a");
  output.line("b");
  assert.equal(failures, 2);
});
