/**
 * grpcurl with nothing but an address: it learns everything else from server reflection. Built once with
 * Go; without Go the test says that it is not run.
 */
import assert from "node:assert/strict";
import { GRPCInferenceService } from "../../src/protocol/mod.ts";
import { denseBundle, writeBundle } from "../harness/bundle_builder.ts";
import { startServer } from "../harness/server.ts";

import { runTool } from "../conformance/grpc_interop/tools.ts";
import { goTool, lacksGoTool } from "../harness/go_tools.ts";
import { unless } from "../harness/not_run.ts";

/** Answers of a dense layer, by hand: x·kernel + bias for x = [1, 2, 3]. */
const DENSE_ANSWER = [80.5, 86.25, 92.125, 98];

Deno.test({
  ...unless(
    lacksGoTool("grpcurl"),
    "grpcurl lists, describes and calls a worker's services from its address alone",
  ),
  fn: async (t) => {
    const grpcurl = await goTool("grpcurl");
    const models = await Deno.makeTempDir();
    try {
      await writeBundle(models, "dense", denseBundle());
      await using server = await startServer({ modelDirs: [models] });
      const address = `127.0.0.1:${server.grpcPort}`;
      const run = (...args: string[]) => runTool(grpcurl, ["-plaintext", ...args]);
      const call = async (method: string, request: unknown = {}) => {
        const { success, stdout, stderr } = await run(
          "-d",
          JSON.stringify(request),
          address,
          method,
        );
        assert(success, stderr);
        return JSON.parse(stdout);
      };

      await t.step("list", async () => {
        const { stdout, stderr } = await run(address, "list");
        const services = stdout.trim().split("\n");
        for (
          const name of [
            "grpc.health.v1.Health",
            "inference.GRPCInferenceService",
            "reactant_control.ControlService",
          ]
        ) assert(services.includes(name), stdout + stderr);
        const methods = await run(address, "list", "inference.GRPCInferenceService");
        const declared = GRPCInferenceService.methods.map((method) =>
          `${method.parent.typeName}.${method.name}`
        );
        assert.deepEqual(methods.stdout.trim().split("\n").sort(), declared.sort());
      });
      await t.step("describe", async () => {
        const message = await run(address, "describe", "inference.ModelInferRequest");
        assert.match(message.stdout, /repeated bytes raw_input_contents = 7;/);
        const imported = await run(address, "describe", "inference.ModelConfig");
        assert.match(imported.stdout, /int32 max_batch_size = 4;/);
        const control = await run(address, "describe", "reactant_control.ControlService");
        assert.match(control.stdout, /rpc SetModelResidency/);
        const unknown = await run(address, "describe", "inference.Nothing");
        assert.equal(unknown.success, false);
        assert.match(unknown.stderr, /Symbol not found: inference\.Nothing/);
      });
      await t.step("call", async () => {
        const service = "inference.GRPCInferenceService";
        assert.deepEqual(await call(`${service}/ServerReady`), { ready: true });
        assert.deepEqual(await call("grpc.health.v1.Health/Check"), { status: "SERVING" });
        assert.deepEqual(await call(`${service}/RepositoryIndex`), {
          models: [{ name: "dense", state: "READY" }],
        });
        const metadata = await call(`${service}/ModelMetadata`, { name: "dense" });
        assert.deepEqual(metadata.inputs, [{ name: "x", datatype: "FP32", shape: ["-1", "3"] }]);
        const answer = await call(`${service}/ModelInfer`, {
          model_name: "dense",
          id: "7",
          inputs: [{
            name: "x",
            datatype: "FP32",
            shape: [1, 3],
            contents: { fp32_contents: [1, 2, 3] },
          }],
        });
        assert.equal(answer.id, "7");
        assert.deepEqual(answer.outputs, [{ name: "y", datatype: "FP32", shape: ["1", "4"] }]);
        const bytes = Uint8Array.from(atob(answer.rawOutputContents[0]), (c) => c.charCodeAt(0));
        assert.deepEqual([...new Float32Array(bytes.buffer)], DENSE_ANSWER);
      });
      await t.step("a call that fails says why", async () => {
        const { success, stderr } = await run(
          "-d",
          '{"model_name": "nobody"}',
          address,
          "inference.GRPCInferenceService/ModelInfer",
        );
        assert.equal(success, false);
        assert.match(stderr, /Code: NotFound\s+Message: .*"nobody"/);
      });
    } finally {
      await Deno.remove(models, { recursive: true });
    }
  },
});
