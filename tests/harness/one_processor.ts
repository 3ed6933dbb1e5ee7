/**
 * A process of one processor that keeps the CPU device at it from all sides: dispatches of short and of
 * long programs, on inputs in memory that is used again at once, over weights that come and go, beside
 * uploads and compilations. With one processor XLA's pools have one thread each, and that thread stands
 * still while it reports an event: whatever on the event loop waits for it then never ends.
 *
 * Prints `done` when every answer was right and nothing is left.
 */

import assert from "node:assert/strict";
import { getAffinity, Mapping, setProcessAffinity } from "../../ffi/libc/mod.ts";
import { MemoryPool } from "../../src/tensor/mod.ts";
import { mlir, openCpu } from "../ffi/subject.ts";

const ROUNDS = 60;
const LANES = 6;

setProcessAffinity(getAffinity().slice(0, 1));

await using backend = await openCpu();

/** `(x, w: FP32[n, n]) -> x · w`, with `w` of one value: long enough to be found running, when large. */
const source = (side: number) => {
  const type = `tensor<${side}x${side}xf32>`;
  return mlir(
    `(%x: ${type}, %w: ${type}) -> ${type}`,
    `  %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] : (${type}, ${type}) -> ${type}
  return %y : ${type}`,
  );
};

/** One caller of one size; its numbers are its own, so that anyone else's memory gives a wrong answer. */
async function lane(index: number, side: number, pool: MemoryPool): Promise<void> {
  const bytes = side * side * 4;
  const spec = { datatype: "FP32" as const, shape: [side, side] };
  const program = await backend.compile(source(side));
  const block = Mapping.anonymous(bytes);
  for (let round = 0; round < ROUNDS; round++) {
    const [x, w] = [1 + index, 1 + round % 7];
    const data = pool.take(bytes);
    const values = new Float32Array(data.buffer, data.byteOffset, side * side);
    values.fill(x);
    const isAdopted = round % 3 > 0;
    const memory = isAdopted ? block.bytes() : new Uint8Array(bytes);
    new Float32Array(memory.buffer, memory.byteOffset, side * side).fill(w);
    const adopted = isAdopted ? backend.adopt!(spec, memory) : undefined;
    const weights = adopted?.buffer ?? await backend.upload(spec, memory);
    const running = backend.run(program, [{ ...spec, data }], [weights]);
    // Half of them leave while the dispatch is under way.
    const leaves = () => adopted ? adopted.release() : weights[Symbol.dispose]();
    const early = round % 2 === 0 ? leaves() : undefined;
    const { outputs } = await running;
    data.fill(0xff);
    pool.giveBack(data);
    await (early ?? leaves());
    memory.fill(0xff);
    const found = new Float32Array(outputs[0]!.slice().buffer);
    assert.ok(found.every((value) => value === side * x * w), `${found[0]}, not ${side * x * w}`);
    if (round % 20 === index) {
      using another = await backend.compile(source(side + 1 + index));
      assert.equal(another.signature.parameters.length, 2);
    }
  }
  program[Symbol.dispose]();
  block[Symbol.dispose]();
}

const pool = new MemoryPool();
const sides = [8, 64, 128, 128, 256, 256];
await Promise.all(Array.from({ length: LANES }, (_, index) => lane(index, sides[index]!, pool)));
assert.equal(backend.liveHandles().buffer, 0);
assert.equal(backend.liveHandles().event, 0);
console.log("done");
