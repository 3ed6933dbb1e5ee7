/**
 * The object-detection example, built as a user builds it, on a whole server: a two-stage detector as a
 * meta model, against the same pipeline in JAX and NumPy.
 */
import assert from "node:assert/strict";
import { ControlService, type InferParameter } from "../../src/protocol/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import { runPython } from "../harness/python.ts";
import { startServer, type TestServer } from "../harness/server.ts";

type Client = TestClient["inference"];

/** What `tests/python/detector_compare.py` prints. */
interface Comparison {
  images: number;
  shapes: number[][];
  classes: number[];
  proposals: number[];
  candidates: number[];
  detections: number[];
  worst_box: number;
  worst_score: number;
}

interface Detections {
  boxes: Float32Array;
  scores: Float32Array;
  classes: Int32Array;
}

/** Colours in blocks, from a linear congruential generator. */
function draw(seed: number, height: number, width: number): NamedTensor {
  let state = seed * 7919 + 1;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  const data = new Uint8Array(height * width * 3).fill(next(256));
  for (let block = 0; block < 8; block++) {
    const [top, left, rows, columns] = [next(height), next(width), 4 + next(24), 4 + next(24)];
    const colour = [next(256), next(256), next(256)];
    for (let y = top; y < Math.min(height, top + rows); y++) {
      for (let x = left; x < Math.min(width, left + columns); x++) {
        data.set(colour, (y * width + x) * 3);
      }
    }
  }
  return { name: "image", datatype: "UINT8", shape: [height, width, 3], data };
}

async function detect(client: Client, image: NamedTensor, budgetMs?: number): Promise<Detections> {
  const parameters = new Map<string, InferParameter>();
  if (budgetMs !== undefined) {
    const value = BigInt(Math.ceil(budgetMs * 1e6));
    parameters.set("reactant_timeout_ns", { kind: "int64", value });
  }
  const { outputs } = await client.infer({ modelName: "detector", inputs: [image], parameters });
  const [boxes, scores, classes] = ["boxes", "scores", "classes"].map((name) =>
    outputs.find((output) => output.name === name)!
  ) as [NamedTensor, NamedTensor, NamedTensor];
  assert.deepEqual([boxes.shape, scores.shape], [[classes.shape[0], 4], classes.shape]);
  return {
    boxes: new Float32Array(boxes.data.slice().buffer),
    scores: new Float32Array(scores.data.slice().buffer),
    classes: new Int32Array(classes.data.slice().buffer),
  };
}

function assertSame(found: Detections, wanted: Detections, what: string): void {
  assert.deepEqual(found.classes, wanted.classes, what);
  for (const part of ["boxes", "scores"] as const) {
    found[part].forEach((value, at) => {
      const difference = Math.abs(value - wanted[part][at]!);
      assert.ok(difference <= 1e-4, `${what}: ${part}[${at}] differs by ${difference}`);
    });
  }
}

async function failureOf(promise: Promise<unknown>): Promise<{ status: string; message: string }> {
  try {
    await promise;
  } catch (error) {
    return error as { status: string; message: string };
  }
  return { status: "OK", message: "" };
}

async function metric(server: TestServer, name: string, model: string): Promise<number> {
  const { body } = await server.http("/metrics");
  const line = body.split("\n").find((line) =>
    line.startsWith(`${name}{`) && line.includes(`model="${model}"`)
  );
  return Number(line!.split(" ").at(-1));
}

async function agreesWithReference(server: TestServer, models: string): Promise<void> {
  const { code, stdout, stderr } = await runPython("tests/python/detector_compare.py", [
    `127.0.0.1:${server.grpcPort}`,
    models,
    "24",
  ], { timeoutMs: 600_000 });
  assert.equal(code, 0, stdout + stderr);
  const result: Comparison = JSON.parse(stdout);
  console.log(
    `${result.images} images, coordinates within ${result.worst_box.toExponential(1)}, ` +
      `scores within ${result.worst_score.toExponential(1)}`,
  );
  assert.equal(result.images, 24);
  // The comparison is worth something only if every part of the pipeline had something to decide.
  assert.ok(result.shapes.length >= 8);
  assert.deepEqual(result.classes, [0, 1, 2, 3, 4]);
  assert.ok(result.proposals.some((count) => count > 64), "one batch of heads is not enough");
  assert.ok(result.proposals.some((count) => count < 64), "one batch of heads is more than enough");
  const suppressed = result.candidates.filter((count, at) => count > result.detections[at]!);
  assert.ok(suppressed.length > 10, "boxes are suppressed");
}

async function answersAtTheEdges(client: Client): Promise<void> {
  for (const [height, width] of [[0, 0], [0, 20]] as const) {
    assert.equal((await detect(client, draw(1, height, width))).classes.length, 0);
  }
  await detect(client, draw(1, 1, 1));
  const large = await failureOf(detect(client, draw(1, 129, 40)));
  assert.equal(large.status, "INTERNAL");
  assert.match(large.message, /an image of 129x40 fits none of 96x128, 128x96, 128x128/);
  const grey = { ...draw(1, 8, 9), shape: [8, 27, 1] };
  assert.equal((await failureOf(detect(client, grey))).status, "INVALID_ARGUMENT");
}

/**
 * Keeps the device busy until it is disposed, so that stages of several runs come to wait together.
 * Regular requests, which those stages overtake.
 */
function occupyDevice(client: Client): AsyncDisposable {
  const data = new Uint8Array(4 * 3 * 128 * 128 * 4);
  const images: NamedTensor = {
    name: "image",
    datatype: "FP32",
    shape: [4, 3, 128, 128],
    data,
  };
  let isDone = false;
  const loops = Array.from({ length: 3 }, async () => {
    while (!isDone) await client.infer({ modelName: "detector-backbone", inputs: [images] });
  });
  return {
    async [Symbol.asyncDispose]() {
      isDone = true;
      await Promise.all(loops);
    },
  };
}

/** Small images, whose RoIs of several requests fit one batch of the heads. */
const IMAGES = [[24, 16], [48, 40], [20, 12], [14, 25], [18, 18], [16, 16], [64, 20], [10, 30]]
  .map(([height, width], seed) => draw(seed, height!, width!));

async function concurrentRunsShareDispatches(server: TestServer, client: Client): Promise<void> {
  const alone: Detections[] = [];
  for (const image of IMAGES) alone.push(await detect(client, image));
  assert.ok(alone.some(({ classes }) => classes.length > 1));
  const counts = () =>
    Promise.all(
      ["worker_requests_served_total", "worker_dispatch_total"].map((name) =>
        metric(server, name, "detector-heads")
      ),
    );
  const [servedBefore, dispatchedBefore] = await counts();
  await using _load = occupyDevice(client);
  // Whether two stages ever wait together is up to the machine; a round or two will do.
  for (let round = 1, shared = 0; shared < 5; round++) {
    assert.ok(round <= 200, `only ${shared} calls of the heads shared a dispatch`);
    await Promise.all(Array.from({ length: 48 }, async (_, at) => {
      const which = at % IMAGES.length;
      assertSame(await detect(client, IMAGES[which]!), alone[which]!, `concurrent run ${at}`);
    }));
    const [served, dispatched] = await counts();
    const requests = served! - servedBefore!;
    shared = requests - (dispatched! - dispatchedBefore!);
    console.log(`${requests} calls of the heads in ${requests - shared} dispatches`);
  }
}

async function deadlineIsInherited(client: Client): Promise<void> {
  const wanted = await detect(client, IMAGES[1]!);
  const startMs = performance.now();
  await detect(client, IMAGES[1]!);
  const usualMs = performance.now() - startMs;
  const statuses: string[] = [];
  // Budgets that end in every stage of a run, and before it: the first is of a nanosecond.
  for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 3]) {
    const { status, message } = await failureOf(
      detect(client, IMAGES[1]!, Math.max(1e-6, usualMs * share)),
    );
    if (status !== "OK") assert.match(message, /deadline/i);
    statuses.push(status);
    // A late run costs its hook worker; the next budget is not to be spent on starting another.
    assertSame(await detect(client, IMAGES[1]!), wanted, "after a late run");
  }
  console.log(`budgets of 0 to 3 times ${usualMs.toFixed(1)} ms: ${statuses.join(" ")}`);
  assert.equal(statuses[0], "DEADLINE_EXCEEDED");
  assertSame(await detect(client, IMAGES[1]!, 600_000), wanted, "with time to spare");
  assert.deepEqual(statuses.filter((status) => !/^(OK|DEADLINE_EXCEEDED)$/.test(status)), []);
}

async function stagesAreHidden(client: Client): Promise<void> {
  const index = await client.repositoryIndex();
  assert.deepEqual(index.map(({ name, state }) => [name, state]), [["detector", "READY"]]);
  const { models } = await client.call(ControlService.method.modelControlStatus, {});
  assert.deepEqual(models.map(({ name }) => name), ["detector"]);
  assert.equal(await client.modelReady("detector-heads"), true);
}

Deno.test("the detector agrees with the same pipeline in JAX and NumPy", async (t) => {
  await using folder = await temporaryDirectory();
  const built = await runPython("examples/detector/build.py", [folder.path], {
    timeoutMs: 600_000,
  });
  assert.equal(built.code, 0, built.stderr);
  await using server = await startServer({
    modelDirs: [folder.path],
    args: ["--meta-concurrency", "8"],
    env: { REACTANT_WORKER_THREADS: "4" },
    timeoutMs: 300_000,
  });
  await using client = connect(server);
  const { inference } = client;
  await t.step("on images of every size", () => agreesWithReference(server, folder.path));
  await t.step("at the edges", () => answersAtTheEdges(inference));
  await t.step("concurrently", () => concurrentRunsShareDispatches(server, inference));
  await t.step("within a deadline", () => deadlineIsInherited(inference));
  await t.step("with its stages hidden", () => stagesAreHidden(inference));
});
