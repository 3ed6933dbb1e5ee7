import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import type { RuntimeConfig } from "../config/mod.ts";
import { Logger } from "../log.ts";
import { compileSettings, effectiveNumerics } from "./compiler_choices.ts";
import { executableKey } from "./executable_cache/key.ts";
import { encodeCompileOptions } from "./pjrt/compile_options.ts";
import { CompileOptionsProtoSchema } from "./pjrt/gen/xla/compile_options_pb.ts";

type Choices = Pick<
  RuntimeConfig,
  "numerics" | "autotune" | "autotuneCache" | "autotuneCacheDir"
>;
const DEFAULTS: Choices = {
  numerics: "auto",
  autotune: true,
  autotuneCache: undefined,
  autotuneCacheDir: "",
};
const CUDA = { platform: "cuda", deviceKind: "a device", fingerprint: "one build" };
const CPU = { ...CUDA, platform: "cpu" };

function settingsOf(choices: Partial<Choices>, backend = CUDA) {
  const lines: string[] = [];
  const logger = new Logger({ level: "warn", write: (line) => lines.push(line) });
  return { settings: compileSettings({ ...DEFAULTS, ...choices }, backend, logger), lines };
}

/** The debug options in the serialized compile options. */
function optionsOf(choices: Partial<Choices>, backend = CUDA): Record<string, unknown> {
  const bytes = encodeCompileOptions(0, settingsOf(choices, backend).settings);
  const { envOptionOverrides } = fromBinary(CompileOptionsProtoSchema, bytes);
  return Object.fromEntries(
    Object.entries(envOptionOverrides).map(([name, { value }]) => [name, value.value]),
  );
}

Deno.test("numerics f32 keeps products from kernels that may use TF32; auto and tf32 leave XLA alone", () => {
  assert.deepEqual(optionsOf({ numerics: "f32" }), { xla_gpu_enable_triton_gemm: false });
  assert.deepEqual(optionsOf({ numerics: "auto" }), {});
  assert.deepEqual(optionsOf({ numerics: "tf32" }), {});
  assert.deepEqual(optionsOf({ autotune: false }), { xla_gpu_autotune_level: 0n });
});

Deno.test("a CPU gets none of the GPU's options, and computes FP32 as such", () => {
  assert.deepEqual(optionsOf({ numerics: "f32", autotuneCacheDir: "/nowhere" }, CPU), {});
  for (const numerics of ["f32", "auto", "tf32"] as const) {
    assert.equal(effectiveNumerics({ numerics }, "cpu"), "f32");
    assert.equal(effectiveNumerics({ numerics }, "cuda"), numerics);
  }
});

Deno.test("autotune results go to a folder per build of the compiler, made when it is needed", async () => {
  const root = await Deno.makeTempDir();
  try {
    const named = (choices: Partial<Choices>, backend = CUDA) =>
      optionsOf({ autotuneCacheDir: `${root}/tune`, ...choices }, backend)
        .xla_gpu_per_fusion_autotune_cache_dir as string | undefined;
    const folder = named({})!;
    assert.ok(folder.startsWith(`${root}/tune/xla-`));
    assert.ok((await Deno.stat(folder)).isDirectory);
    assert.equal(named({ autotuneCache: true }), folder);
    assert.notEqual(named({}, { ...CUDA, fingerprint: "another build" }), folder);
    assert.equal(named({ autotuneCache: false }), undefined);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("autotune results without a usable folder are not kept, and that is said", async () => {
  const without = settingsOf({ autotuneCache: true });
  assert.deepEqual(without.settings, {});
  assert.match(without.lines.join(), /give runtime\.autotune_cache_dir/);
  const file = await Deno.makeTempFile();
  try {
    const blocked = settingsOf({ autotuneCacheDir: file });
    assert.deepEqual(blocked.settings, {});
    assert.match(blocked.lines.join(), /the folder cannot be made/);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("numerics tell executables apart", async () => {
  const identity = { backend: CUDA, deviceOrdinal: 0, xlaFlags: "", processors: 1 };
  const key = async (numerics: Choices["numerics"]) =>
    (await executableKey(Uint8Array.of(1), settingsOf({ numerics }).settings, identity)).toHex();
  assert.notEqual(await key("f32"), await key("auto"));
  assert.equal(await key("auto"), await key("tf32"));
});
