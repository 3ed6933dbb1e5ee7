/**
 * Large tensors of many callers at once, from shared memory and over the wire, some abandoned and some
 * late: each answer is its caller's to the last byte, though inputs lie in memory that the device reads in
 * place and that the next request gets.
 */

import assert from "node:assert/strict";
import { ServerError } from "../../src/errors.ts";
import {
  GRPCInferenceService,
  responseTensors,
  sharedMemoryParameters,
} from "../../src/protocol/mod.ts";
import {
  safetensors,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { startServer } from "../harness/server.ts";

/** INT32 elements of a row: 128 KiB, far into what is neither copied nor made anew. */
const WIDTH = 32_768;
const BYTES = 4 * WIDTH;
const CALLERS = 10;
const CALLS = 50;

/** `x`, INT32 [n, WIDTH], to its double `y`. */
async function writeDouble(root: string): Promise<void> {
  const tensor = (name: string) => ({ name, dtype: "i32", shape: "nd", dims: { d: WIDTH } });
  const sizes = [1, 4];
  const program = (size: number) => {
    const type = `${size}x${WIDTH}xi32`;
    return stablehlo([type], [type], [
      `%0 = stablehlo.add %arg0, %arg0 : tensor<${type}>`,
    ], ["%0"]);
  };
  await writeBundle(root, "double", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      batching: { compiled_batch_sizes: sizes },
    }),
    ...Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size)])),
    "weights.safetensors": safetensors([]),
  });
}

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
  await writeDouble(folder.path);
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
