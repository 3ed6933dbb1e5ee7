/** `bundle inspect` and `bundle validate`, as a user runs them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EXIT, main } from "../../src/cli/mod.ts";
import {
  type BundleFiles,
  denseBundle,
  denseProgram,
  float32Bytes,
  metaManifest,
  safetensors,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";

interface Outcome {
  readonly code: number;
  readonly printed: string;
  readonly complained: string;
}

async function run(...args: string[]): Promise<Outcome> {
  const printed: string[] = [];
  const complained: string[] = [];
  const code = await main(args, {
    print: (line) => printed.push(line),
    complain: (line) => complained.push(line),
  });
  return { code, printed: printed.join("\n"), complained: complained.join("\n") };
}

/** The dense bundle with golden tensors for batch size 1: ones in, `outputs` out. */
function withGolden(outputs: number[], metadata: Record<string, string> = {}): BundleFiles {
  const golden = safetensors([
    { name: "b1/input/x", dtype: "F32", shape: [1, 3], data: float32Bytes([1, 1, 1]) },
    { name: "b1/output/y", dtype: "F32", shape: [1, 4], data: float32Bytes(outputs) },
  ], metadata);
  return { ...denseBundle(), "golden.safetensors": golden };
}

// numpy.ones((1, 3)) @ numpy.array(kernel).reshape(3, 4) + bias
const RIGHT = [30.5, 33.25, 36.125, 39];

Deno.test("bundle inspect describes a bundle in wire order", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", withGolden(RIGHT));
  const { code, printed, complained } = await run("bundle", "inspect", directory);
  assert.equal(code, EXIT.ok);
  assert.equal(complained, "");
  assert.deepEqual(printed.split("\n").slice(1), [
    "  inputs",
    "    x  FP32[?,3]  batch axis 0",
    "  outputs",
    "    y  FP32[?,4]  batch axis 0",
    "  programs",
    `    model.b1.mlir  batch size 1    ${denseProgram({ batch: 1 }).length} B`,
    `    model.b2.mlir  batch size 2    ${denseProgram({ batch: 2 }).length} B`,
    "  2 weights, 64 B, transposed when loaded",
    "    kernel  FP32[3,4]  48 B",
    "    bias    FP32[4]    16 B",
    "  golden.safetensors for 1 of 2 programs",
  ]);
});

Deno.test("bundle inspect goes through a folder and fails when one of its bundles is bad", async () => {
  await using root = await temporaryDirectory();
  await writeBundle(root.path, "good", denseBundle());
  await writeBundle(root.path, "bad", { ...denseBundle(), "manifest.yaml": "" });
  const { code, printed, complained } = await run("bundle", "inspect", root.path);
  assert.equal(code, EXIT.failure);
  assert.match(printed, /^good \(model, axis_order column_major\)/m);
  assert.match(complained, /Cannot load model "bad": manifest.yaml must hold a mapping/);
});

Deno.test("bundle says what is wrong with its command line", async () => {
  await using root = await temporaryDirectory();
  for (const args of [[], ["inspect"], ["improve", root.path], ["inspect", root.path]]) {
    assert.equal((await run("bundle", ...args)).code, EXIT.usage, args.join(" "));
  }
  const { code } = await run("bundle", "inspect", join(root.path, "absent"));
  assert.equal(code, EXIT.usage);
});

Deno.test({
  name: "bundle validate compiles, checks and compares",
  // The plugin stays loaded for the life of the process: XLA cannot be unloaded.
  sanitizeResources: false,
  async fn(t) {
    await using root = await temporaryDirectory();
    const validate = async (name: string, files: BundleFiles) =>
      await run("bundle", "validate", await writeBundle(root.path, name, files));

    await t.step("accepts right outputs", async () => {
      const { code, printed } = await validate("right", withGolden(RIGHT));
      assert.equal(code, EXIT.ok);
      assert.match(printed, /ok {4}model.b1.mlir: output "y" identical to golden/);
      assert.match(printed, /note {2}model.b2.mlir: no golden tensors/);
      assert.match(printed, /1 of 1 bundles are valid/);
    });

    await t.step(
      "measures outputs that differ, and accepts them within the tolerance",
      async () => {
        const outputs = [...RIGHT.slice(0, 3), 39.5];
        const wrong = await validate("wrong", withGolden(outputs));
        assert.equal(wrong.code, EXIT.failure);
        assert.match(
          wrong.printed,
          /FAIL {2}model.b1.mlir: output "y" largest difference 5.00e-1 absolute, 1.27e-2 relative/,
        );
        assert.match(wrong.printed, /0 of 1 bundles are valid/);
        const loose = await validate("loose", withGolden(outputs, { atol: "0.5" }));
        assert.equal(loose.code, EXIT.ok);
      },
    );

    await t.step("tries every program and reports each that fails", async () => {
      const { code, printed } = await validate("programs", {
        ...withGolden(RIGHT),
        "model.b1.mlir": "nonsense",
        "model.b2.mlir": denseProgram({ batch: 4 }),
      });
      assert.equal(code, EXIT.failure);
      assert.match(printed, /FAIL .*model.b1.mlir does not compile/);
      assert.match(printed, /FAIL .*model.b2.mlir does not fit its bundle: input "x"/);
    });

    await t.step("refuses a meta model that calls a meta model", async () => {
      const tensor = { name: "x", dtype: "f32", shape: "n" };
      for (const [name, call] of [["outer", "inner"], ["inner", "dense"]]) {
        const manifest = {
          format_version: 2,
          kind: "meta",
          meta: { calls: [call] },
          client_inputs: [tensor],
          client_outputs: [tensor],
        };
        const files = { "manifest.yaml": JSON.stringify(manifest), "model.ts": "" };
        await writeBundle(join(root.path, "metas"), name!, files);
      }
      const { code, printed } = await run("bundle", "validate", join(root.path, "metas"));
      assert.equal(code, EXIT.failure);
      assert.match(printed, /FAIL .*"outer".*lists "inner", which is a meta model itself/);
      assert.match(printed, /1 of 2 bundles are valid/);
    });

    await t.step(
      "sends a meta model its golden request, with the models it calls beside it",
      async () => {
        const folder = join(root.path, "replayed");
        const hook = `register_meta("chain", async (inputs, call) => {
        const [first] = await call("dense", inputs);
        const values = new Float32Array(first.data.slice().buffer).map((value) => value / 2);
        const data = new Uint8Array(values.slice(0, 3).buffer);
        const [second] = await call("dense", [{ ...inputs[0], data }]);
        return [{ ...second, name: "z" }];
      });`;
        const meta = (outputs: number[]): BundleFiles => ({
          "manifest.yaml": JSON.stringify(metaManifest(["dense"])),
          "model.ts": hook,
          "golden.safetensors": safetensors([
            { name: "b0/input/x", dtype: "F32", shape: [1, 3], data: float32Bytes([1, 2, 3]) },
            { name: "b0/output/z", dtype: "F32", shape: [1, 4], data: float32Bytes(outputs) },
          ], { atol: "0", rtol: "0" }),
        });
        // (([1, 2, 3] @ kernel + bias)[:3] / 2) @ kernel + bias, all of it exact in FP32
        const right = [1353, 1482.1875, 1611.5, 1740.8125];
        const alone = await writeBundle(folder, "right", meta(right));
        const unreplayed = await run("bundle", "validate", alone);
        assert.equal(unreplayed.code, EXIT.ok);
        assert.match(unreplayed.printed, /note .*not replayed: there is no "dense" beside it/);

        await writeBundle(folder, "dense", denseBundle());
        await writeBundle(folder, "wrong", meta([...right.slice(0, 3), 1740]));
        await writeBundle(folder, "broken", {
          ...meta(right),
          "model.ts": hook.replace('call("dense"', 'call("other"'),
        });
        const { code, printed, complained } = await run("bundle", "validate", folder);
        assert.equal(code, EXIT.failure);
        assert.match(printed, /^right\n.*\n {2}ok {4}output "z" identical to golden$/m);
        assert.match(printed, /^ {2}FAIL {2}output "z" largest difference 8.13e-1 absolute/m);
        assert.match(printed, /^ {2}FAIL {2}the golden request ended \w+: .*"other"/m);
        assert.match(printed, /2 of 4 bundles are valid/);
        assert.equal(complained, "");

        const { printed: described } = await run("bundle", "inspect", alone);
        assert.match(described, /golden.safetensors with a request and its answer/);
      },
    );

    await t.step("reports a bad golden file and a bundle that does not load", async () => {
      const files = { ...denseBundle(), "golden.safetensors": safetensors([], {}).slice(0, 9) };
      assert.match(
        (await validate("golden", files)).printed,
        /FAIL .*golden.safetensors: the header/,
      );
      const empty = await validate("empty", { ...denseBundle(), "manifest.yaml": "" });
      assert.match(empty.printed, /FAIL .*manifest.yaml must hold a mapping/);
      assert.equal(empty.code, EXIT.failure);
    });
  },
});
