/**
 * Large tensors of many callers at once, from shared memory and over the wire, some abandoned and some
 * late: each answer is its caller's to the last byte, though inputs lie in memory that the device reads in
 * place and that the next request gets. And objects that are cut, grown and replaced under requests that
 * compute in them: no crash, and nobody else's answer is touched.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { ServerError } from "../../src/errors.ts";
import {
  GRPCInferenceService,
  responseTensors,
  sharedMemoryParameters,
} from "../../src/protocol/mod.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import { writeDouble } from "../harness/double_bundle.ts";
import { TextLineStream } from "../harness/lines.ts";
import { startServer } from "../harness/server.ts";

/** INT32 elements of a row: 128 KiB, far into what is neither copied nor made anew. */
const WIDTH = 32_768;
const BYTES = 4 * WIDTH;
const CALLERS = 10;
const CALLS = 50;

/** One caller's two places in the object: for what it sends, and for what it gets. */
interface Caller {
  readonly index: number;
  readonly file: Deno.FsFile;
  readonly inputAt: number;
  /** Results of abandoned calls may still be written when the next call is under way: never twice one. */
  readonly outputAt: (call: number) => number;
}

Deno.test("large tensors of many callers never meet, in shared memory or out of it", async () => {
  await using folder = await temporaryDirectory();
  await writeDouble(folder.path, "double", { dtype: "i32", width: WIDTH, sizes: [1, 4] });
  await using server = await startServer({ modelDirs: [folder.path] });
  const path = Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "reactant-storm-" });
  using file = Deno.openSync(path, { read: true, write: true });
  try {
    const slot = (1 + CALLS) * BYTES;
    file.truncateSync(CALLERS * slot);
    await using client = connect(server);
    const { inference } = client;
    await inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
      name: "storm",
      key: path.replace("/dev/shm", ""),
      offset: 0n,
      byteSize: BigInt(CALLERS * slot),
    });
    const region = (offset: number) =>
      sharedMemoryParameters({ region: "storm", offset, byteSize: BYTES });
    const counts = { right: 0, refused: 0 };

    const ask = async (caller: Caller, call: number): Promise<void> => {
      const values = new Int32Array(WIDTH);
      for (let at = 0; at < WIDTH; at++) values[at] = (caller.index << 24) | (call << 16) | at;
      const data = new Uint8Array(values.buffer);
      const [fromRegion, toRegion] = [(call + caller.index) % 2 === 0, (call >> 1) % 2 === 0];
      const outputAt = caller.outputAt(call);
      if (fromRegion) caller.file.seekSync(caller.inputAt, Deno.SeekMode.Start);
      if (fromRegion) assert.equal(caller.file.writeSync(data), BYTES);
      const fate = call % 5;
      const abort = new AbortController();
      const timer = fate === 3 ? setTimeout(() => abort.abort(), call % 7) : undefined;
      const options = {
        signal: abort.signal,
        ...(fate === 4 ? { deadlineMs: performance.now() + 1 + call % 9 } : {}),
      };
      let answer;
      try {
        answer = await inference.inferRaw({
          modelName: "double",
          inputs: [{
            name: "x",
            datatype: "INT32",
            shape: [1, WIDTH],
            data: fromRegion ? undefined : data,
            ...(fromRegion ? { parameters: region(caller.inputAt) } : {}),
          }],
          outputs: toRegion ? [{ name: "y", parameters: region(outputAt) }] : [],
        }, options);
      } catch (error) {
        clearTimeout(timer);
        if (!(error instanceof ServerError) || fate < 3) throw error;
        assert.match(error.status, /^(CANCELLED|DEADLINE_EXCEEDED)$/);
        counts.refused++;
        return;
      }
      clearTimeout(timer);
      let found: Uint8Array;
      if (toRegion) {
        found = new Uint8Array(BYTES);
        caller.file.seekSync(outputAt, Deno.SeekMode.Start);
        assert.equal(caller.file.readSync(found), BYTES);
      } else found = responseTensors(answer)[0]!.data.slice();
      const doubled = new Int32Array(found.buffer);
      const wrong = doubled.findIndex((value, at) => value !== (2 * values[at]! | 0));
      assert.equal(
        wrong,
        -1,
        `caller ${caller.index}, call ${call}: ${doubled[wrong]} at ${wrong}`,
      );
      counts.right++;
    };
    const callers = Array.from({ length: CALLERS }, async (_, index) => {
      const caller = {
        index,
        file,
        inputAt: index * slot,
        outputAt: (call: number) => index * slot + (1 + call) * BYTES,
      };
      for (let call = 0; call < CALLS; call++) await ask(caller, call);
    });
    await Promise.all(callers);
    assert.equal(counts.right + counts.refused, CALLERS * CALLS);
    assert.ok(counts.right >= CALLERS * CALLS * 3 / 5);
  } finally {
    Deno.removeSync(path);
  }
});

/** FP32 elements of a row: half a mebibyte, 128 pages to be cut off at. */
const STORM_WIDTH = 131_072;
const STORM_BYTES = 4 * STORM_WIDTH;
/** Room for one input and one output. */
const OBJECT_BYTES = 2 * STORM_BYTES;
const STORM_MS = 5_000;
const SABOTEUR = fileURLToPath(new URL("../harness/region_saboteur.ts", import.meta.url));

interface StormCaller {
  readonly name: string;
  readonly path: string;
  /** Nowhere 0, which is what cut memory reads as. */
  readonly value: number;
  readonly isSabotaged: boolean;
  readonly counts: Record<"right" | "holed" | "shrunk" | "unregistered", number>;
}

/** Forgets one region, or all. */
function unregister({ inference }: TestClient, name = ""): Promise<unknown> {
  return inference.call(GRPCInferenceService.method.systemSharedMemoryUnregister, { name });
}

/** Registers the object that has the caller's path now. */
async function registerAnew({ inference }: TestClient, { name, path }: StormCaller): Promise<void> {
  try {
    await inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
      name,
      key: path.replace("/dev/shm", ""),
      offset: 0n,
      byteSize: BigInt(OBJECT_BYTES),
    });
  } catch (error) {
    // The object is short or away at this moment.
    if (!(error instanceof ServerError)) throw error;
    assert.match(error.message, /fewer than offset|cannot be opened|no shared-memory object/);
  }
}

/** Asks once, with input and output in the caller's region, one of them or none, and checks the answer. */
async function askInStorm(client: TestClient, caller: StormCaller, call: number): Promise<void> {
  const { name, path, value, isSabotaged, counts } = caller;
  const values = new Float32Array(STORM_WIDTH).fill(value);
  const data = new Uint8Array(values.buffer);
  if (isSabotaged) {
    if (call % 4 === 0) await registerAnew(client, caller);
    if (call % 31 === 30) await unregister(client, name);
    try {
      using file = Deno.openSync(path, { write: true });
      for (let at = 0; at < STORM_BYTES;) at += file.writeSync(data.subarray(at));
    } catch (error) {
      // It is away at this moment.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  const [fromRegion, toRegion] = [call % 3 !== 2, call % 2 === 0];
  const place = (offset: number) =>
    sharedMemoryParameters({ region: name, offset, byteSize: STORM_BYTES });
  let answer;
  try {
    answer = await client.inference.inferRaw({
      // Alone in its batch with the one, among others with the other.
      modelName: call % 5 === 0 ? "shared" : "alone",
      inputs: [{
        name: "x",
        datatype: "FP32",
        shape: [1, STORM_WIDTH],
        ...(fromRegion ? { data: undefined, parameters: place(0) } : { data }),
      }],
      outputs: toRegion ? [{ name: "y", parameters: place(STORM_BYTES) }] : [],
    });
  } catch (error) {
    if (!isSabotaged || !(error instanceof ServerError)) throw error;
    if (/unregistered shared memory region/.test(error.message)) counts.unregistered++;
    else {
      assert.match(`${error.status}: ${error.message}`, /^INVALID_ARGUMENT: .*has shrunk/);
      counts.shrunk++;
    }
    return;
  }
  if (toRegion && isSabotaged) {
    // Gone again by now, perhaps.
    counts.right++;
    return;
  }
  const found = toRegion
    ? Deno.readFileSync(path).subarray(STORM_BYTES)
    : responseTensors(answer)[0]!.data.slice();
  const answers = new Float32Array(found.slice().buffer);
  assert.equal(answers.length, STORM_WIDTH);
  const mayBeHoled = isSabotaged && fromRegion;
  let holes = 0;
  for (let at = 0; at < answers.length; at++) {
    if (answers[at] === 2 * value) continue;
    const where = `${name}, call ${call}, element ${at}`;
    assert.ok(mayBeHoled && answers[at] === 0, `${where}: ${answers[at]}`);
    holes++;
  }
  if (holes > 0) counts.holed++;
  else counts.right++;
}

Deno.test("objects cut, grown, removed and registered anew under load crash nothing and spoil nobody else", async () => {
  await using folder = await temporaryDirectory();
  await writeDouble(folder.path, "alone", { dtype: "f32", width: STORM_WIDTH, sizes: [1] });
  await writeDouble(folder.path, "shared", { dtype: "f32", width: STORM_WIDTH, sizes: [4] });
  await using server = await startServer({ modelDirs: [folder.path] });
  await using client = connect(server);
  const callers = Array.from({ length: 6 }, (_, index): StormCaller => ({
    name: `caller ${index}`,
    path: Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "reactant-storm-" }),
    value: index + 1,
    isSabotaged: index < 4,
    counts: { right: 0, holed: 0, shrunk: 0, unregistered: 0 },
  }));
  const mappings = () =>
    Deno.readTextFileSync(`/proc/${server.pid}/maps`).split("\n").filter((line) =>
      line.includes("reactant-storm-")
    ).length;
  try {
    for (const caller of callers) {
      const contents = new Float32Array(OBJECT_BYTES / 4).fill(caller.value, 0, STORM_WIDTH);
      Deno.writeFileSync(caller.path, new Uint8Array(contents.buffer));
      await registerAnew(client, caller);
    }
    assert.equal(mappings(), callers.length);
    const victims = callers.filter(({ isSabotaged }) => isSabotaged);
    const saboteur = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--no-config", "--no-check", SABOTEUR, String(OBJECT_BYTES)],
        ...victims.map(({ path }) => path),
      ],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const sabotaged = { cuts: 0, replacements: 0 };
    let hasEnded = false;
    const reading = (async () => {
      const text = saboteur.stdout.pipeThrough(new TextDecoderStream());
      for await (const line of text.pipeThrough(new TextLineStream())) {
        Object.assign(sabotaged, JSON.parse(line));
      }
      hasEnded = true;
    })();
    const total = (kind: keyof StormCaller["counts"]) =>
      callers.reduce((sum, { counts }) => sum + counts[kind], 0);
    const untilMs = performance.now() + STORM_MS;
    const hasHappened = () =>
      sabotaged.cuts > 50 && sabotaged.replacements > 5 && total("shrunk") > 0 &&
      total("right") > 20;
    // For that long, and on a slow machine until all of it has happened.
    const isOver = () => hasEnded || performance.now() >= untilMs && hasHappened();
    try {
      // Two at a time each, so that regions also go while a request is under way in them.
      await Promise.all([...callers, ...callers].map(async (caller, index) => {
        for (let call = index; !isOver(); call++) {
          await askInStorm(client, caller, call);
        }
      }));
    } finally {
      await saboteur.stdin.close();
      await reading;
      await saboteur.status;
    }
    assert.ok(hasHappened(), JSON.stringify(sabotaged));

    // Afterwards all is as it was: registered anew, each region works again, and none is left behind.
    for (const caller of callers) {
      const contents = new Float32Array(OBJECT_BYTES / 4).fill(caller.value, 0, STORM_WIDTH);
      Deno.writeFileSync(caller.path, new Uint8Array(contents.buffer));
      await registerAnew(client, caller);
      const before = caller.counts.right;
      for (const call of [0, 1, 3]) {
        await askInStorm(client, { ...caller, isSabotaged: false }, call);
      }
      assert.equal(caller.counts.right, before + 3);
    }
    assert.equal(mappings(), callers.length);
    await unregister(client);
    assert.equal(mappings(), 0);
    assert.deepEqual(server.events.filter(({ level }) => level === "error"), []);
  } finally {
    for (const { path } of callers) Deno.removeSync(path);
  }
});
