import assert from "node:assert/strict";
import {
  type InferParameter,
  NO_PARAMETERS,
  remainingBudgetMs,
  sharedMemoryReference,
} from "./parameters.ts";

Deno.test("remainingBudgetMs() reads nanoseconds, and takes anything else as no limit", async (t) => {
  const cases: [string, InferParameter | undefined, number | undefined][] = [
    ["absent", undefined, undefined],
    ["1.5 ms", { kind: "int64", value: 1_500_000 }, 1.5],
    ["1 ns", { kind: "int64", value: 1 }, 1e-6],
    ["zero", { kind: "int64", value: 0 }, undefined],
    ["negative", { kind: "int64", value: -5 }, undefined],
    ["the largest int64", { kind: "int64", value: 2n ** 63n - 1n }, 9223372036854.775],
    ["the smallest int64", { kind: "int64", value: -(2n ** 63n) }, undefined],
    ["text", { kind: "string", value: "1000" }, undefined],
    ["a double", { kind: "double", value: 1000 }, undefined],
    ["a bool", { kind: "bool", value: true }, undefined],
  ];
  for (const [name, parameter, expected] of cases) {
    await t.step(name, () => {
      const map = parameter ? new Map([["reactant_timeout_ns", parameter]]) : NO_PARAMETERS;
      assert.equal(remainingBudgetMs(map), expected);
    });
  }
});

Deno.test("remainingBudgetMs() also takes Triton's timeout in microseconds, and the shorter of both", () => {
  const timeout: [string, InferParameter] = ["timeout", { kind: "int64", value: 2500 }];
  const budget = (nanoseconds: number): [string, InferParameter] => [
    "reactant_timeout_ns",
    { kind: "int64", value: nanoseconds },
  ];
  assert.equal(remainingBudgetMs(new Map([timeout])), 2.5);
  assert.equal(remainingBudgetMs(new Map([timeout, budget(1_000_000)])), 1);
  assert.equal(remainingBudgetMs(new Map([timeout, budget(9_000_000)])), 2.5);
  assert.equal(remainingBudgetMs(new Map([timeout, budget(0)])), 2.5);
});

Deno.test("sharedMemoryReference() takes a region of another kind as absent, and any integer kind for sizes", () => {
  const size: [string, InferParameter] = ["shared_memory_byte_size", { kind: "uint64", value: 16 }];
  const region: [string, InferParameter] = [
    "shared_memory_region",
    { kind: "string", value: "r" },
  ];
  assert.deepEqual(sharedMemoryReference(new Map([region, size]), "input"), {
    region: "r",
    offset: 0,
    byteSize: 16,
  });
  const number: [string, InferParameter] = ["shared_memory_region", { kind: "int64", value: 1 }];
  assert.equal(sharedMemoryReference(new Map([number, size]), "input"), undefined);
  const huge: [string, InferParameter] = [
    "shared_memory_offset",
    { kind: "int64", value: 2n ** 63n - 1n },
  ];
  assert.throws(() => sharedMemoryReference(new Map([region, size, huge]), 'input "x"'), {
    name: "InvalidArgumentError",
    message: 'input "x": parameter shared_memory_offset is out of range: 9223372036854775807',
  });
});
