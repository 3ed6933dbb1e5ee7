import assert from "node:assert/strict";
import { testBackendContract } from "./backend_contract.ts";
import { MockBackend, type MockDefinition } from "./mock_backend.ts";

const matrix = { datatype: "FP32", shape: [2, 3] } as const;

const addRow: MockDefinition = {
  parameters: [matrix, { datatype: "FP32", shape: [3] }],
  results: [matrix, matrix],
  compute: ([x, w]) => {
    const a = new Float32Array(x!.slice().buffer);
    const b = new Float32Array(w!.slice().buffer);
    const sum = a.map((value, index) => value + b[index % 3]!);
    return [sum, a.map((value) => 2 * value)].map((values) => new Uint8Array(values.buffer));
  },
};

const open = () => new MockBackend({ programs: { addRow } });
const code = new TextEncoder().encode("addRow");
const inputs = [
  { ...matrix, data: new Uint8Array(24) },
  { datatype: "FP32" as const, shape: [3], data: new Uint8Array(12) },
];

testBackendContract("MockBackend", { open: () => Promise.resolve(open()), code });

Deno.test("failNext() fails that many calls of that kind only", async () => {
  const backend = open();
  const program = await backend.compile(code);
  backend.failNext("execute", new Error("first"));
  backend.failNext("execute", new Error("second"));
  await assert.rejects(backend.run(program, inputs, []), /first/);
  await assert.rejects(backend.run(program, inputs, []), /second/);
  await backend.run(program, inputs, []);
  assert.equal(backend.calls.execute, 3);
});

Deno.test("gate() holds calls until it opens", async () => {
  const backend = open();
  const program = await backend.compile(code);
  const gate = backend.gate("execute");
  let settled = false;
  const running = backend.run(program, inputs, []).then(() => settled = true);
  await gate.reached;
  assert.equal(settled, false);
  gate.open();
  await running;
  await backend.run(program, inputs, []);
});

Deno.test("run() has executed before its copies begin, where transfers overlap", async () => {
  const backend = new MockBackend({ programs: { addRow }, overlapsTransfers: true });
  const program = await backend.compile(code);
  const gate = backend.gate("download");
  const told: string[] = [];
  const running = backend.run(program, inputs, [], { onExecuted: () => told.push("executed") })
    .then(() => told.push("ended"));
  await gate.reached;
  assert.deepEqual(told, ["executed"]);
  gate.open();
  await running;
  assert.deepEqual(told, ["executed", "ended"]);

  backend.failNext("execute", new Error("no"));
  const failing = backend.run(program, inputs, [], { onExecuted: () => told.push("wrongly") });
  await assert.rejects(failing, /no/);
  assert.deepEqual(told, ["executed", "ended"]);
});

testBackendContract("MockBackend with overlapping transfers", {
  open: () => Promise.resolve(new MockBackend({ programs: { addRow }, overlapsTransfers: true })),
  code,
});
