/**
 * Fuzzes the HTTP/2 and HPACK layers: real conversations of our own client and server are recorded,
 * cut into frames, mutated with an eye to their structure, and played to a fresh connection whose owner
 * answers, resets, keeps and consumes at random.
 *
 *   deno run -A scripts/fuzz_http2/mod.ts [--frames 10000000] [--seed N] [--case N]
 *
 * It fails when an exception escapes, when a connection does not come to its end, when a listener hears
 * what it should not, when the output is not well-formed, when an untouched conversation is refused, or
 * when memory grows. Every case has a
 * seed of its own; `--case` replays one.
 */

import { parseArgs } from "node:util";
import { caseSeed, fuzz, type FuzzResult, makeRecordings, playCase } from "./fuzz.ts";

export { fuzz };

/** A case that takes this long hangs. */
const HANG_MS = 30_000;

/** Runs in a worker, so that even an endless loop is noticed, and ends the process when it is over. */
function supervise(seed: number, frames: number): void {
  const started = performance.now();
  const worker = new Worker(import.meta.url, { type: "module" });
  let last = "the start";
  let timer = setTimeout(() => {}, 0);
  const expectNews = () => {
    clearTimeout(timer);
    timer = setTimeout(() => fail(`it hangs after ${last}`), HANG_MS);
  };
  const fail = (message: string) => {
    console.error(`FAILED: seed ${seed}: ${message}`);
    Deno.exit(1);
  };
  expectNews();
  worker.onerror = (event) => fail(event.message);
  worker.onmessage = ({ data }) => {
    expectNews();
    if (data.error !== undefined) return fail(data.error);
    if (data.result === undefined) {
      if (data.cases % 20_000 === 0) {
        const rate = data.frames / (performance.now() - started) * 1000;
        console.log(`${data.cases} cases, ${data.frames} frames, ${rate.toFixed(0)} frames/s`);
      }
      last = `case ${data.cases}`;
      return;
    }
    const { cases, frames: played, heapBytes: [early, late] } = data.result as FuzzResult;
    const mib = (bytes: number) => (bytes / 1048576).toFixed(1);
    const rss = Deno.memoryUsage().rss;
    console.log(
      `${cases} cases, ${played} frames in ${
        ((performance.now() - started) / 1000).toFixed(0)
      } s: ` +
        `no exception escaped; heap ${mib(early)} MiB after a tenth, ${
          mib(late)
        } MiB at the end; ` +
        `resident ${mib(rss)} MiB`,
    );
    if (late > early * 1.5 + 16 * 1048576) fail("memory grows");
    Deno.exit(0);
  };
  worker.postMessage({ seed, frames });
}

/** The worker's side: `message` events carry `{ seed, frames }`. */
function serveWorker(scope: Worker): void {
  scope.onmessage = async ({ data }) => {
    try {
      const result = await fuzz(data.seed, data.frames, (cases, frames) => {
        scope.postMessage({ cases, frames });
      });
      scope.postMessage({ result });
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.stack : "";
      scope.postMessage({ error: `${error} ${cause}` });
    }
  };
}

// A worker's module counts as a main module too.
if (isWorker()) {
  serveWorker(globalThis as unknown as Worker);
} else if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      frames: { type: "string", default: "10000000" },
      seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
      case: { type: "string" },
    },
  });
  const seed = Number(values.seed);
  console.log(`seed ${seed}`);
  if (values.case !== undefined) {
    await playCase(await makeRecordings(seed), caseSeed(seed, Number(values.case)));
    console.log("the case passes");
  } else {
    supervise(seed, Number(values.frames));
  }
}

function isWorker(): boolean {
  return globalThis.constructor.name === "DedicatedWorkerGlobalScope";
}
