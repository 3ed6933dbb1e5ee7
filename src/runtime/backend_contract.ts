/**
 * What every `Backend` does, as a test suite that each implementation runs. The program it is given adds
 * a row to a matrix and doubles the matrix: `(x: FP32[2,3], w: FP32[3]) -> (x + w, 2x)`.
 */

import assert from "node:assert/strict";
import { UnavailableError } from "../errors.ts";
import { byteLengthOf, DATATYPES, type TensorSpec } from "../tensor/mod.ts";
import type { Backend } from "./backend.ts";

export interface ContractSubject {
  /** A new backend without any handles of its own but the client's. */
  open(): Promise<Backend>;
  /** Code of the program above. */
  readonly code: Uint8Array;
}

const X: TensorSpec = { datatype: "FP32", shape: [2, 3] };
const W: TensorSpec = { datatype: "FP32", shape: [3] };
const x = bytesOf([1, 2, 3, 4, 5, 6]);
const w = bytesOf([10, 20, 30]);
const SUM = [11, 22, 33, 14, 25, 36];
const DOUBLE = [2, 4, 6, 8, 10, 12];

function bytesOf(values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

function valuesOf(bytes: Uint8Array): number[] {
  return Array.from(new Float32Array(bytes.slice().buffer));
}

/** Registers the suite. */
export function testBackendContract(name: string, subject: ContractSubject): void {
  const test = (behaviour: string, work: (backend: Backend) => Promise<void>) =>
    Deno.test(`${name}: ${behaviour}`, async () => {
      await using backend = await subject.open();
      const before = backend.liveHandles();
      await work(backend);
      assert.deepEqual(backend.liveHandles(), before, "every handle is given back");
    });

  test("compile() reads the signature", async (backend) => {
    using program = await backend.compile(subject.code);
    assert.deepEqual(program.signature, { parameters: [X, W], results: [X, X] });
  });

  test("upload() and download() keep every datatype's bytes", async (backend) => {
    for (const { datatype, byteSize, pjrtType } of DATATYPES) {
      if (pjrtType < 0) continue;
      for (const shape of [[], [1], [5, 7], [0, 3], [2, 3, 4]]) {
        const spec = { datatype, shape };
        const data = crypto.getRandomValues(new Uint8Array(byteLengthOf(spec)));
        if (datatype === "BOOL") data.forEach((value, index) => data[index] = value & 1);
        using buffer = await backend.upload(spec, data);
        assert.deepEqual(
          { datatype: buffer.datatype, shape: buffer.shape, byteLength: buffer.byteLength },
          { ...spec, byteLength: data.length },
        );
        assert.deepEqual(new Uint8Array(await backend.download(buffer)), data, datatype);
        const target = new Uint8Array(data.length + 2 * byteSize).subarray(byteSize, -byteSize);
        assert.equal(await backend.download(buffer, target), target);
        assert.deepEqual(new Uint8Array(target), data, datatype);
      }
    }
  });

  test("upload() has copied the data when it settles", async (backend) => {
    const data = new Uint8Array(1 << 20).fill(1);
    using buffer = await backend.upload({ datatype: "UINT8", shape: [1 << 20] }, data);
    data.fill(2);
    assert.ok((await backend.download(buffer)).every((value) => value === 1));
  });

  test("upload() and download() refuse other lengths", async (backend) => {
    await assert.rejects(backend.upload(X, new Uint8Array(23)), TypeError);
    using buffer = await backend.upload(X, x);
    await assert.rejects(backend.download(buffer, new Uint8Array(25)), TypeError);
  });

  test("execute() computes and leaves its arguments alone", async (backend) => {
    using program = await backend.compile(subject.code);
    using a = await backend.upload(X, x);
    using b = await backend.upload(W, w);
    for (let round = 0; round < 3; round++) {
      const [sum, double] = await program.execute([a, b]);
      assert.deepEqual(valuesOf(await backend.download(sum!)), SUM);
      assert.deepEqual(valuesOf(await backend.download(double!)), DOUBLE);
      sum![Symbol.dispose]();
      double![Symbol.dispose]();
    }
    assert.deepEqual(valuesOf(await backend.download(a)), [1, 2, 3, 4, 5, 6]);
  });

  test("run() gives what the three steps give, into targets when there are any", async (backend) => {
    using program = await backend.compile(subject.code);
    using weights = await backend.upload(W, w);
    const { outputs, stages } = await backend.run(program, [{ ...X, data: x }], [weights]);
    assert.deepEqual(outputs.map(valuesOf), [SUM, DOUBLE]);
    for (const seconds of Object.values(stages)) assert.ok(seconds >= 0 && seconds < 60);

    const inputs = [{ ...X, data: x }, { ...W, data: w }];
    const targets = [new Uint8Array(24), new Uint8Array(24)];
    const direct = await backend.run(program, inputs, [], { targets });
    assert.equal(direct.outputs[0], targets[0]);
    assert.deepEqual(targets.map(valuesOf), [SUM, DOUBLE]);

    const second = new Uint8Array(24);
    const mixed = await backend.run(program, inputs, [], {
      targets: [undefined, second],
    });
    assert.deepEqual(mixed.outputs.map(valuesOf), [SUM, DOUBLE]);
    assert.equal(mixed.outputs[1], second);
  });

  test("run() takes inputs that are on the device, and says before it ends that it has executed", async (backend) => {
    using program = await backend.compile(subject.code);
    using input = await backend.upload(X, x);
    using weights = await backend.upload(W, w);
    const told: string[] = [];
    const options = { onExecuted: () => told.push("executed") };
    const { outputs } = await backend.run(program, [], [input, weights], options);
    told.push("ended");
    assert.deepEqual(outputs.map(valuesOf), [SUM, DOUBLE]);
    // Whoever's copies belong to the execution may say nothing.
    if (told.length > 1 || backend.overlapsTransfers) assert.deepEqual(told, ["executed", "ended"]);
  });

  test("run() takes many dispatches at once", async (backend) => {
    using program = await backend.compile(subject.code);
    using weights = await backend.upload(W, w);
    const results = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const data = bytesOf(Array(6).fill(index));
        return valuesOf((await backend.run(program, [{ ...X, data }], [weights])).outputs[1]!);
      }),
    );
    results.forEach((values, index) => assert.deepEqual(values, Array(6).fill(2 * index)));
  });

  test("wrong arguments are refused before they reach the device", async (backend) => {
    using program = await backend.compile(subject.code);
    using a = await backend.upload(X, x);
    using b = await backend.upload(W, w);
    using asInts = await backend.upload({ datatype: "INT32", shape: [2, 3] }, x);
    using turned = await backend.upload({ datatype: "FP32", shape: [3, 2] }, x);
    const refused = (message: RegExp) => (error: unknown) =>
      error instanceof TypeError && message.test(error.message);
    await assert.rejects(program.execute([a]), refused(/takes 2 arguments, got 1/));
    await assert.rejects(program.execute([a, b, b]), refused(/takes 2 arguments, got 3/));
    await assert.rejects(
      program.execute([asInts, b]),
      refused(/parameter 0 is FP32\[2,3\], got INT32/),
    );
    await assert.rejects(
      program.execute([turned, b]),
      refused(/parameter 0 is FP32\[2,3\], got FP32\[3,2\]/),
    );
    const run = backend.run.bind(backend, program);
    await assert.rejects(run([{ ...X, data: x }], [a]), refused(/parameter 1 is FP32\[3\], got/));
    await assert.rejects(
      run([{ ...X, data: x.subarray(1) }], [b]),
      refused(/parameter 0.*24 bytes.*23/),
    );
    await assert.rejects(
      run([{ ...X, data: x }], [b], { targets: [new Uint8Array(24)] }),
      refused(/2 results, not 1/),
    );
    await assert.rejects(
      run([{ ...X, data: x }], [b], { targets: [new Uint8Array(24), new Uint8Array(20)] }),
      refused(/result 1/),
    );
  });

  test("a buffer or program of another backend is refused", async (backend) => {
    await using other = await subject.open();
    using ours = await backend.compile(subject.code);
    using theirs = await other.compile(subject.code);
    using buffer = await other.upload(W, w);
    await assert.rejects(backend.run(ours, [{ ...X, data: x }], [buffer]), TypeError);
    await assert.rejects(
      backend.run(theirs, [{ ...X, data: x }, { ...W, data: w }], []),
      TypeError,
    );
    await assert.rejects(backend.download(buffer), TypeError);
  });

  test("dispose is harmless twice and ends use", async (backend) => {
    const program = await backend.compile(subject.code);
    const buffer = await backend.upload(X, x);
    using weights = await backend.upload(W, w);
    program[Symbol.dispose]();
    program[Symbol.dispose]();
    await assert.rejects(program.execute([buffer, weights]), TypeError);
    await assert.rejects(backend.run(program, [{ ...X, data: x }], [weights]), TypeError);
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    await assert.rejects(backend.download(buffer), TypeError);
  });

  test("dispose waits for the calls that use a handle", async (backend) => {
    const program = await backend.compile(subject.code);
    const weights = await backend.upload(W, w);
    const running = [1, 2, 3].map(() => backend.run(program, [{ ...X, data: x }], [weights]));
    program[Symbol.dispose]();
    weights[Symbol.dispose]();
    for (const { outputs } of await Promise.all(running)) {
      assert.deepEqual(valuesOf(outputs[0]!), SUM);
    }
  });

  test("a deserialized program computes the same", async (backend) => {
    using program = await backend.compile(subject.code);
    const bytes = await program.serialize();
    using again = await backend.deserialize(bytes);
    assert.deepEqual(again.signature, program.signature);
    assert.deepEqual(again.memory, program.memory);
    const inputs = [{ ...X, data: x }, { ...W, data: w }];
    const [first, second] = await Promise.all(
      [program, again].map(async (each) => (await backend.run(each, inputs, [])).outputs),
    );
    assert.deepEqual(second, first);
  });

  Deno.test(`${name}: closing lets work finish and refuses new work`, async () => {
    const backend = await subject.open();
    const program = await backend.compile(subject.code);
    const left = await backend.upload(X, x);
    const inputs = [{ ...X, data: x }, { ...W, data: w }];
    const running = backend.run(program, inputs, []);
    const closed = backend[Symbol.asyncDispose]();
    assert.deepEqual(valuesOf((await running).outputs[0]!), SUM);
    await closed;
    await backend[Symbol.asyncDispose]();
    await assert.rejects(backend.compile(subject.code), UnavailableError);
    await assert.rejects(backend.upload(X, x), UnavailableError);
    left[Symbol.dispose]();
    program[Symbol.dispose]();
  });
}
