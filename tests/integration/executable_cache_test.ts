/** The executable cache between processes, on real disks, and in whole servers with the real plugin. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceClient } from "../../src/client/mod.ts";
import { Logger } from "../../src/log.ts";
import { MockBackend, openExecutableCache } from "../../src/runtime/mod.ts";
import { GrpcClient } from "../../src/transport/mod.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { startServer, type TestServer } from "../harness/server.ts";
import { notRun } from "../harness/not_run.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const digits = `${root}examples/digits/bundle`;
const TEMPORARY = ".temporary";

function cacheUser(directory: string, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", "--config", `${root}deno.json`],
      ...[`${root}tests/harness/cache_user.ts`, directory, ...args],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

function filesIn(directory: string): string[] {
  try {
    return [...Deno.readDirSync(join(directory, "executables"))].map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function sizeOf(directory: string): number {
  return filesIn(directory)
    .reduce((sum, name) => sum + Deno.statSync(join(directory, "executables", name)).size, 0);
}

/** Opens and closes a cache over a mock that knows one program, loading it in between. */
async function useCache(directory: string, name = "program") {
  const definition = { parameters: [], results: [], compute: () => [] };
  const logged: string[] = [];
  const cache = await openExecutableCache({
    directory,
    maxBytes: 0,
    backend: new MockBackend({ programs: { [name]: definition } }),
    deviceOrdinal: 0,
    logger: new Logger({ write: (line) => logged.push(line) }),
  });
  const loaded = await cache?.load(new TextEncoder().encode(name));
  loaded?.program[Symbol.dispose]();
  await cache?.[Symbol.asyncDispose]();
  return { logged, reading: cache?.reading(), isCached: loaded?.isCached };
}

Deno.test("processes that share a small cache never disturb each other", async () => {
  await using folder = await temporaryDirectory();
  // All eight programs together are 3.5 MB: entries are evicted all the time.
  const maxBytes = 2_500_000;
  const users = [1, 2, 3].map(() => cacheUser(folder.path, "churn", "4", String(maxBytes)));
  for (const { code, stdout, stderr } of await Promise.all(users.map((user) => user.output()))) {
    const log = new TextDecoder().decode(stderr);
    assert.equal(code, 0, log);
    assert.equal(log, "");
    const totals = JSON.parse(new TextDecoder().decode(stdout));
    assert.equal(totals.errors, 0);
    assert.equal(totals.wrong, 0);
    assert.ok(totals.hits > 10 && totals.misses > 10, JSON.stringify(totals));
  }
  assert.ok(!filesIn(folder.path).some((name) => name.endsWith(TEMPORARY)));
  // Each process may be one program past the bound when all write at once.
  assert.ok(sizeOf(folder.path) <= maxBytes + 2 * 2_000_200, String(sizeOf(folder.path)));
});

Deno.test("a writer killed in the middle leaves nothing that the next start minds", async () => {
  await using folder = await temporaryDirectory();
  const directory = join(folder.path, "cache");
  for (let attempt = 1;; attempt++) {
    const writer = cacheUser(directory, "write");
    let isWriting = false;
    while (!isWriting) {
      isWriting = filesIn(directory).some((name) => name.endsWith(TEMPORARY));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    writer.kill("SIGKILL");
    await writer.output();
    if (filesIn(directory).some((name) => name.endsWith(TEMPORARY))) break;
    assert.ok(attempt < 100, "the writer could not be killed while it was writing");
  }
  const { logged, reading } = await useCache(directory);
  assert.match(logged.join(), /removed unfinished files .*files=1/);
  assert.deepEqual(reading!.errors, { damaged: 0, unreadable: 0, refused: 0, unwritten: 0 });
  assert.ok(!filesIn(directory).some((name) => name.endsWith(TEMPORARY)));
  assert.equal((await useCache(directory)).isCached, true);
});

Deno.test("an entry that a process does not survive is compiled again at the next start", async () => {
  await using folder = await temporaryDirectory();
  await useCache(folder.path);
  const user = await cacheUser(folder.path, "die").output();
  assert.equal(user.signal, "SIGKILL");
  assert.equal(filesIn(folder.path).length, 2);
  const { logged, isCached } = await useCache(folder.path);
  assert.equal(isCached, false);
  assert.equal(logged.length, 1);
  assert.match(logged[0]!, /WARN .*a process ended while it loaded a cached program/);
  assert.equal((await useCache(folder.path)).isCached, true);
  assert.equal(filesIn(folder.path).length, 1);
});

/** Mounts a small file system; `undefined` where this process may not. */
function mountTmpfs(path: string, size: string): Disposable | undefined {
  const mount = (...args: string[]) => new Deno.Command("mount", { args }).outputSync().success;
  if (Deno.uid() !== 0 || !mount("-t", "tmpfs", "-o", `size=${size}`, "none", path)) {
    return undefined;
  }
  return {
    [Symbol.dispose]: () => void new Deno.Command("umount", { args: ["-l", path] }).outputSync(),
  };
}

Deno.test("a server on a full disk, then on one that may only be read, serves without its cache", async (t) => {
  await using folder = await temporaryDirectory();
  // Its three programs need about 24 kB each: one fits.
  using disk = mountTmpfs(folder.path, "40k");
  if (disk === undefined) return await notRun(t, "no file system can be mounted here");
  const start = async (hits: number) => {
    await using server = await startServer({
      modelDirs: [digits],
      args: ["--cache-dir", folder.path],
    });
    assert.equal((await metrics(server)).hits_total, hits);
    await answers(server);
    await server[Symbol.asyncDispose]();
    assert.equal((await server.exited).code, 0);
    return server.events.filter(({ level }) => level !== "info")
      .map(({ message, reason }) => `${message}: ${reason}`);
  };
  const problem = "a compiled program could not be cached";
  const full = await start(0);
  assert.equal(full.length, 1);
  assert.match(full[0]!, new RegExp(`${problem}: No space left`));
  assert.equal(filesIn(folder.path).length, 1);
  const remount = ["-o", "remount,ro", folder.path];
  assert.ok(new Deno.Command("mount", { args: remount }).outputSync().success);
  // What is there is still used.
  const readOnly = await start(1);
  assert.equal(readOnly.length, 1);
  assert.match(readOnly[0]!, new RegExp(`${problem}: Read-only file system`));
});

/** The executable cache's series, by name without its prefix and constant labels. */
async function metrics(server: TestServer): Promise<Record<string, number>> {
  const { body } = await server.http("/metrics");
  const found = body.matchAll(/^worker_executable_cache_(\w+)\{worker="\w+"(?:,(.*))?\} (\S+)$/gm);
  return Object.fromEntries(
    Array.from(found, ([, name, labels, value]) => [
      labels ? `${name}{${labels}}` : name!,
      Number(value),
    ]),
  );
}

/** What the server answers for images of every compiled size, as text that shows every bit. */
async function answers(server: TestServer): Promise<string> {
  const grpc = new GrpcClient({ target: `127.0.0.1:${server.grpcPort}` });
  try {
    const client = new InferenceClient(async (path, message, options) =>
      (await grpc.unary(path, message, options)).message
    );
    const all = [];
    for (const rows of [1, 8, 32]) {
      const pixels = Float32Array.from({ length: rows * 64 }, (_, at) => (at * 7919) % 17);
      const { outputs } = await client.infer({
        modelName: "digits",
        inputs: [{
          name: "image",
          datatype: "FP32",
          shape: [rows, 64],
          data: new Uint8Array(pixels.buffer),
        }],
      });
      all.push(outputs.map(({ name, shape, data }) => [name, shape, [...data]]));
    }
    return JSON.stringify(all);
  } finally {
    await grpc.close();
  }
}

Deno.test("a second start loads every program from the cache and answers the same; damage is repaired", async () => {
  await using folder = await temporaryDirectory();
  const start = async () => {
    await using server = await startServer({
      modelDirs: [digits],
      args: ["--cache-dir", folder.path],
    });
    const loaded = await server.waitForEvent(({ message }) => message === "model loaded");
    return {
      loaded,
      answers: await answers(server),
      metrics: await metrics(server),
      warnings: server.events.filter(({ level }) => level !== "info").map((
        { message, problem },
      ) => ({
        message,
        problem,
      })),
    };
  };
  const cold = await start();
  assert.deepEqual([cold.loaded.programs, cold.loaded.programsCached], [3, 0]);
  assert.deepEqual([cold.metrics.hits_total, cold.metrics.misses_total], [0, 3]);

  const warm = await start();
  assert.deepEqual([warm.loaded.programs, warm.loaded.programsCached], [3, 3]);
  assert.deepEqual([warm.metrics.hits_total, warm.metrics.misses_total], [3, 0]);
  assert.equal(warm.answers, cold.answers);
  assert.equal(warm.metrics.bytes, sizeOf(folder.path));

  // One entry with a bit turned deep in its machine code, one cut off.
  const [first, second] = filesIn(folder.path).map((name) =>
    join(folder.path, "executables", name)
  );
  const bytes = Deno.readFileSync(first!);
  bytes[bytes.length >> 1]! ^= 0x10;
  Deno.writeFileSync(first!, bytes);
  Deno.truncateSync(second!, 5000);
  const damaged = await start();
  assert.equal(damaged.loaded.programsCached, 1);
  assert.equal(damaged.answers, cold.answers);
  assert.equal(damaged.metrics['errors_total{problem="damaged"}'], 2);
  const warning = {
    message: "a cached program cannot be used and is compiled again",
    problem: "damaged",
  };
  assert.deepEqual(damaged.warnings, [warning, warning]);

  const repaired = await start();
  assert.equal(repaired.loaded.programsCached, 3);
  assert.equal(repaired.answers, cold.answers);
  assert.deepEqual([...cold.warnings, ...warm.warnings, ...repaired.warnings], []);
});
