/** Device buffers of host memory that is not copied, on the plugin that computes in host memory. */

import assert from "node:assert/strict";
import { Mapping } from "../../ffi/libc/mod.ts";
import { openCpu, powers } from "./subject.ts";

const SIDE = 384;
const SPEC = { datatype: "FP32" as const, shape: [SIDE, SIDE] };
const BYTES = SIDE * SIDE * 4;

Deno.test("adopt() makes a buffer of memory as it lies", async () => {
  await using backend = await openCpu();
  using memory = Mapping.anonymous(2 * BYTES);
  const data = memory.bytes(64, BYTES);
  data.fill(1);
  const before = JSON.stringify(backend.liveHandles());
  const adopted = backend.adopt!(SPEC, data);
  assert.deepEqual([...adopted.buffer.shape, adopted.buffer.byteLength], [SIDE, SIDE, BYTES]);
  assert.ok((await backend.download(adopted.buffer)).every((byte) => byte === 1));
  // Nobody may do this; it shows that there is no second copy.
  data[5] = 2;
  assert.equal((await backend.download(adopted.buffer))[5], 2);
  assert.throws(() => backend.adopt!(SPEC, memory.bytes(0, BYTES - 1)), TypeError);
  const [first, second] = [adopted.release(), adopted.release()];
  await Promise.all([first, second]);
  await assert.rejects(backend.download(adopted.buffer), TypeError);
  assert.equal(JSON.stringify(backend.liveHandles()), before);
});

Deno.test("adopt(): memory is let go of after the dispatch that uses it, and may be used again then", async () => {
  await using backend = await openCpu();
  using memory = Mapping.anonymous(BYTES);
  using program = await backend.compile(powers(SIDE, 40));
  const values = new Float32Array(memory.bytes().buffer);
  for (const diagonal of [1, 3, 0]) {
    // The program doubles the matrix and multiplies that with itself: 2 d^41 on the diagonal.
    values.fill(0);
    for (let row = 0; row < SIDE; row++) values[row * SIDE + row] = diagonal;
    const adopted = backend.adopt!(SPEC, memory.bytes());
    const running = backend.run(program, [], [adopted.buffer]);
    await adopted.release();
    memory.bytes().fill(0xff);
    const { outputs } = await running;
    const found = new Float32Array(outputs[0]!.slice().buffer);
    const expected = 2 * diagonal ** 41;
    const isRight = found.every((value, at) =>
      at % (SIDE + 1) === 0 ? Math.abs(value - expected) <= 1e-5 * expected : value === 0
    );
    assert.ok(isRight, `${found[0]}, expected ${expected}`);
  }
  assert.equal(backend.liveHandles().buffer, 0);
});
