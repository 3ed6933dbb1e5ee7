/** The small parts of a load: whom to ask next, when, what it should answer, what the node counted. */
import assert from "node:assert/strict";
import type { NamedTensor } from "../tensor/mod.ts";
import { AnswerCheck } from "./answer_check.ts";
import { Arrivals } from "./arrivals.ts";
import {
  type LoadModel,
  type PreparedRequest,
  prepareRequests,
  whyUnusable,
} from "./load_model.ts";
import { Picker } from "./picker.ts";
import { Random } from "./random.ts";
import { CounterChange, countersIn } from "./scrape.ts";

function floats(values: number[], name = "y"): NamedTensor {
  const data = new Uint8Array(new Float32Array(values).buffer);
  return { name, datatype: "FP32", shape: [values.length], data };
}

function request(model: string, golden?: PreparedRequest["golden"]): PreparedRequest {
  return { model, rows: 1, inputs: [], message: [], outputs: undefined, golden };
}

Deno.test("Arrivals come at their rate: evenly without drift, or as independent callers do", () => {
  const even = new Arrivals({ startMs: 7, rate: 3, spacing: "constant", random: new Random(1) });
  const times = Array.from({ length: 301 }, () => even.next());
  assert.equal(times[0], 7);
  assert.ok(Math.abs(times[300]! - 100_007) < 1e-6);
  const poisson = new Arrivals({
    startMs: 0,
    rate: 100,
    spacing: "poisson",
    random: new Random(1),
  });
  const drawn = Array.from({ length: 20_000 }, () => poisson.next());
  const gaps = drawn.map((time, index) => time - (drawn[index - 1] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  assert.ok(Math.abs(mean - 10) < 0.3, `${mean}`);
  // An exponential distribution's deviation is its mean.
  assert.ok(Math.abs(Math.sqrt(variance) - 10) < 0.5, `${variance}`);
});

Deno.test("Picker draws by weight, sweeps all in turn, and stays with a model for a burst", () => {
  const choices = [
    { weight: 8, requests: [request("often")] },
    { weight: 1e-9, requests: [request("rare")] },
    { weight: 2, requests: [request("some")] },
  ];
  const picks = (sweepEvery: number, burst: number, count: number) => {
    const picker = new Picker({ choices, sweepEvery, burst, random: new Random(3) });
    return Array.from({ length: count }, () => picker.next().model);
  };
  const drawn = picks(0, 1, 10_000);
  const share = drawn.filter((name) => name === "often").length / drawn.length;
  assert.ok(Math.abs(share - 0.8) < 0.02, `${share}`);
  assert.ok(!drawn.includes("rare"));
  const swept = picks(4, 1, 48);
  assert.deepEqual(
    swept.filter((_, index) => index % 4 === 3).slice(0, 6),
    ["often", "rare", "some", "often", "rare", "some"],
  );
  const bursts = picks(0, 5, 50);
  for (let at = 0; at < 50; at += 5) assert.equal(new Set(bursts.slice(at, at + 5)).size, 1);
});

Deno.test("AnswerCheck compares with the first answer, exactly but for rounding of floats", () => {
  const check = new AnswerCheck("equal", 1e-5);
  const [one, other] = [request("m"), request("m")];
  assert.equal(check.judge(one, [floats([1, 2])]), undefined);
  assert.equal(check.checked, 0);
  assert.equal(check.judge(one, [floats([1, 2.00001])]), undefined);
  assert.match(check.judge(one, [floats([1, 2.1])])!, /^output "y" differs by up to 0\.09/);
  assert.match(check.judge(one, [floats([1, NaN])])!, /differs by up to Infinity/);
  assert.equal(check.judge(one, [floats([1])]), 'output "y" is FP32[1] instead of FP32[2]');
  assert.equal(check.judge(one, []), "0 outputs instead of 1");
  assert.equal(check.judge(one, [floats([1, 2], "z")]), 'there is no output "y"');
  // Another request has answers of its own.
  assert.equal(check.judge(other, [floats([9])]), undefined);
  const bytes = (value: number): NamedTensor => ({
    name: "y",
    datatype: "INT8",
    shape: [1],
    data: Uint8Array.of(value),
  });
  const ints = new AnswerCheck("equal", 1);
  assert.equal(ints.judge(one, [bytes(1)]), undefined);
  assert.equal(ints.judge(one, [bytes(2)]), 'output "y" differs');
});

Deno.test("AnswerCheck holds recorded answers against their own tolerance", () => {
  const check = new AnswerCheck("golden", 0);
  const golden = { outputs: [floats([1, 2])], tolerance: { atol: 0.5, rtol: 0 } };
  const recorded = request("m", golden);
  assert.equal(check.judge(recorded, [floats([1.4, 2])]), undefined);
  assert.match(check.judge(recorded, [floats([1.6, 2])])!, /differs/);
  assert.equal(check.checked, 2);
  assert.equal(new AnswerCheck("none", 0).judge(recorded, []), undefined);
});

Deno.test("countersIn() sums every series of the exact names, whatever their labels hold", () => {
  const text = [
    "# TYPE worker_weight_loads_total counter",
    'worker_weight_loads_total{worker="a"} 3',
    'worker_weight_loads_total{worker="b {odd} 7"} 4 1700000000000',
    "worker_weight_loads_total_created 99",
    'worker_weight_evicts_total{worker="a"} 2',
    "gateway_requests_shed_total 5",
    'worker_requests_shed_total{worker="a"} 1e2',
    "",
  ].join("\n");
  const { series, ...sums } = countersIn(text);
  assert.deepEqual(sums, { loads: 7, evicts: 2, gatewayShed: 5, workerShed: 100 });
  assert.deepEqual([...series.loads], [['{worker="a"}', 3], ['{worker="b {odd} 7"}', 4]]);
  const none = countersIn("");
  assert.deepEqual([none.loads, none.evicts, none.gatewayShed, none.workerShed], [0, 0, 0, 0]);
});

Deno.test("CounterChange holds every worker against itself, gone for a while or started again", () => {
  const page = (loads: Record<string, number>) =>
    countersIn(
      Object.entries(loads).map(([worker, count]) =>
        `worker_weight_loads_total{worker="${worker}"} ${count}`
      ).join("\n"),
    );
  const change = new CounterChange("loads");
  const rises = [
    page({ a: 100, b: 200 }),
    page({ a: 101, b: 202 }),
    page({ a: 105 }),
    page({ a: 105, b: 203 }),
    page({ a: 2, b: 203 }),
    page({ a: 2, b: 203, c: 4 }),
  ].map((counters) => change.next(counters));
  assert.deepEqual(rises, [0, 3, 4, 1, 2, 4]);
});

Deno.test("prepareRequests() fills every datatype, and sizes outputs where it can", () => {
  const model: LoadModel = {
    name: "m",
    weight: 1,
    inputs: (["BOOL", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"] as const).map((
      datatype,
    ) => ({
      name: datatype,
      datatype,
      shape: [-1, 3],
      batchAxis: 0,
    })),
    outputs: [{ name: "y", datatype: "INT32", shape: [-1, 5], batchAxis: 0 }],
    sizes: [1, 4],
  };
  for (const data of ["zeros", "random"] as const) {
    const style = { data, usesGolden: false, usesSizes: true };
    const requests = prepareRequests(model, style, new Random(1));
    assert.deepEqual(requests.map(({ rows }) => rows), [1, 4]);
    const [, four] = requests;
    assert.deepEqual(four!.outputs, [{ name: "y", byteSize: 80 }]);
    const lengths = four!.inputs.map(({ data }) => data.length);
    assert.deepEqual(lengths.slice(0, 6), [12, 96, 24, 24, 48, 96]);
    if (data === "zeros") assert.equal(lengths[6], 48);
    const floats16 = new Float32Array(new Uint8Array(four!.inputs[4]!.data).buffer);
    assert.ok(floats16.every((value) => Math.abs(value) <= 1));
    assert.equal(floats16.every((value) => value === 0), data === "zeros");
  }
});

Deno.test("whyUnusable() names what keeps a model from being asked", () => {
  const model = (shape: number[], batchAxis?: number): LoadModel => ({
    name: "m",
    weight: 1,
    inputs: [{ name: "x", datatype: "FP32", shape, batchAxis }],
    outputs: [],
    sizes: [1],
  });
  assert.equal(whyUnusable(model([-1, 3], 0)), undefined);
  assert.equal(whyUnusable(model([3])), undefined);
  assert.equal(whyUnusable(model([-1, -1], 0)), 'axis 1 of input "x" is variable');
  assert.equal(whyUnusable({ ...model([1]), inputs: [] }), "it has no inputs");
});
