/**
 * A process that uses an executable cache, for tests of several at once. Arguments: the cache directory,
 * then `churn SECONDS MAX_BYTES` (load programs at random, opening the cache anew now and then; prints one
 * JSON object when it is done), `write` (compile large programs until killed) or `die` (load the program
 * `program` and be killed while the plugin does).
 */

import { Logger } from "../../src/log.ts";
import { MockBackend, type MockDefinition, openExecutableCache } from "../../src/runtime/mod.ts";

const spec = { datatype: "INT32", shape: [1] } as const;
const [directory, mode, seconds, maxBytes] = Deno.args as [
  string,
  "churn" | "write" | "die",
  string?,
  string?,
];

/** The mock's programs are their names: long ones make large entries. They answer with their length. */
function programs(lengths: readonly number[]): Record<string, MockDefinition> {
  return Object.fromEntries(lengths.map((length) => [
    String(length).padEnd(length, "x"),
    {
      parameters: [],
      results: [spec],
      compute: () => [new Uint8Array(Int32Array.of(length).buffer)],
    },
  ]));
}

async function open(definitions: Record<string, MockDefinition>, bound: number) {
  const backend = new MockBackend({ programs: definitions });
  const cache = await openExecutableCache({
    directory,
    maxBytes: bound,
    backend,
    deviceOrdinal: 0,
    logger: new Logger({ level: "warn" }),
  });
  if (cache === undefined) throw new Error("no cache");
  return { backend, cache };
}

async function churn(): Promise<void> {
  const definitions = programs([16, 100, 5000, 70_000, 300_000, 300_001, 800_000, 2_000_000]);
  const names = Object.keys(definitions);
  const totals = { hits: 0, misses: 0, errors: 0, wrong: 0 };
  const startMs = performance.now();
  // For that long, and on a slow machine until something has happened.
  const isEnough = () => totals.hits > 10 && totals.misses > 10 || secondsSince(startMs) > 300;
  while (secondsSince(startMs) < Number(seconds) || !isEnough()) {
    const { backend, cache } = await open(definitions, Number(maxBytes));
    for (let round = 0; round < 10; round++) {
      const name = names[Math.floor(Math.random() * names.length)]!;
      const { program } = await cache.load(new TextEncoder().encode(name));
      const { outputs } = await backend.run(program, [], []);
      if (new Int32Array(outputs[0]!.slice().buffer)[0] !== name.length) totals.wrong++;
      program[Symbol.dispose]();
    }
    await cache[Symbol.asyncDispose]();
    const { hits, misses, errors } = cache.reading();
    totals.hits += hits;
    totals.misses += misses;
    totals.errors += Object.values(errors).reduce((sum, count) => sum + count, 0);
  }
  console.log(JSON.stringify(totals));
}

function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}

async function write(): Promise<void> {
  const definitions = programs([32_000_000, 32_000_001, 32_000_002]);
  for (;;) {
    const { cache } = await open(definitions, 0);
    for (const name of Object.keys(definitions)) {
      (await cache.load(new TextEncoder().encode(name))).program[Symbol.dispose]();
    }
    await cache[Symbol.asyncDispose]();
    await Deno.remove(directory, { recursive: true });
  }
}

async function die(): Promise<void> {
  const { backend, cache } = await open({}, 0);
  const gate = backend.gate("deserialize");
  void gate.reached.then(() => Deno.kill(Deno.pid, "SIGKILL"));
  await cache.load(new TextEncoder().encode("program"));
}

const modes = { churn, write, die };
await modes[mode]();
