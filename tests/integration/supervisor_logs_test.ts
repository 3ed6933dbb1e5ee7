/** Log lines of real processes: whole, prefixed once, none lost, and nobody blocked. */

import assert from "node:assert/strict";
import { Child } from "../../src/supervisor/child.ts";
import { LogSink } from "../../src/supervisor/log_sink.ts";

/** Runs shell scripts as children until each has ended once, and gives what reaches the sink. */
async function outputOf(
  scripts: Readonly<Record<string, string>>,
  write: (bytes: Uint8Array) => Promise<number>,
  options: { readonly onEnded?: () => void } = {},
): Promise<void> {
  const sink = new LogSink({ write });
  const silent = { info: () => {}, warn: () => {}, error: () => {} };
  const ends = Object.entries(scripts).map(async ([name, script]) => {
    const child: Child = new Child({
      name,
      maxRestarts: 0,
      sink,
      log: silent,
      onEnded: options.onEnded,
      now: () => performance.now(),
      // The end of the first run is the end of the test's interest.
      sleep: () => Promise.resolve(child.stop()),
      spawn: () =>
        new Deno.Command("/bin/sh", {
          args: ["-c", script],
          stdin: "null",
          stdout: "piped",
          stderr: "piped",
        }).spawn(),
    });
    await child.run();
  });
  await Promise.all(ends);
  assert.ok(await sink.flush(60_000));
}

Deno.test("lines of chatty children arrive whole and in order, with one prefix each", async () => {
  const count = 3000;
  const chatty = (stream: string) =>
    `i=0; while [ $i -lt ${count} ]; do printf '{"n":%d,` +
    `"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}\\n' $i ` +
    `${stream}; i=$((i + 1)); done; printf 'last words' ${stream}`;
  let text = "";
  await outputOf({ a: chatty(""), b: chatty(">&2"), c: chatty("") }, (bytes) => {
    text += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  });
  const lines = text.trimEnd().split("\n");
  assert.equal(lines.length, 3 * (count + 1));
  for (const name of ["a", "b", "c"]) {
    const own = lines.filter((line) => line.startsWith(`[${name}] `))
      .map((line) => line.slice(name.length + 3));
    assert.equal(own.pop(), "last words");
    assert.deepEqual(
      own.map((line) => JSON.parse(line).n),
      Array.from({ length: count }, (_, i) => i),
    );
  }
});

Deno.test("a child goes on when nobody reads standard output", async () => {
  const { promise: never, resolve: release } = Promise.withResolvers<number>();
  let hasEnded = false;
  // 16 MiB are more than the sink keeps and the pipes take together.
  const script = "yes 0123456789abcdef0123456789abcdef | head -c 16777216";
  const done = outputOf(
    { loud: script },
    (bytes) => hasEnded ? Promise.resolve(bytes.length) : never,
    {
      onEnded: () => {
        hasEnded = true;
        release(1);
      },
    },
  );
  await done;
  assert.ok(hasEnded);
});

Deno.test({
  name: "a child whose descendant keeps its output open still ends",
  // The read of that stream cannot be taken back: it ends with the descendant.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    let text = "";
    await outputOf({ parent: "echo hello; sleep 20 & exit 3" }, (bytes) => {
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    });
    assert.equal(text, "[parent] hello\n");
  },
});
