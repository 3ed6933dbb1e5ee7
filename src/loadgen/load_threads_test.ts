import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { silentLogger } from "../log.ts";
import type { PreparedRequest } from "./load_model.ts";
import { LoadThreads } from "./load_threads.ts";
import { readSettings } from "./settings.ts";

const FLAGS: Readonly<Record<string, string>> = { gateway: "127.0.0.1:1", threads: "2" };

function open(flags: Record<string, string>, requests: readonly PreparedRequest[]) {
  const given = { ...FLAGS, ...flags };
  const settings = readSettings({ flag: (name) => given[name], variable: () => undefined });
  return LoadThreads.open({ settings, requests, inFlight: 2, logger: silentLogger });
}

function request(outputBytes: number): PreparedRequest {
  return {
    model: "m",
    rows: 1,
    inputs: [],
    message: [],
    outputs: [{ name: "y", byteSize: outputBytes }],
    golden: undefined,
  };
}

Deno.test("LoadThreads pass on what a call ended with, a mistake, and the end of everything", async () => {
  const [known, unknown] = [request(4), request(4)];
  await using threads = await open({ transport: "tcp" }, [known]);
  assert.equal(threads.ways, 1);
  const cut = new AbortController();
  const limits = { deadlineMs: 60_000, signal: cut.signal };
  const startMs = performance.now();
  const { outcome, endMs, isChecked } = await threads.ask(known, 0, limits);
  // Nobody listens on port 1.
  assert.deepEqual([outcome.kind, outcome.status, isChecked], ["error", "UNAVAILABLE", false]);
  assert.ok(endMs > startMs - 1 && endMs < performance.now() + 1, `${startMs} ${endMs}`);
  await assert.rejects(threads.ask(unknown, 0, limits), /in a load thread: TypeError/);
  cut.abort();
  const late = await threads.ask(known, 0, limits);
  assert.equal(late.outcome.status, "CANCELLED");
});

Deno.test("LoadThreads.open() says what a thread cannot work with, and leaves none", async () => {
  await assert.rejects(open({ transport: "shm" }, [request(2 ** 44)]), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /--transport shm cannot be had here: mmap of .* ENOMEM/);
    return true;
  });
});
