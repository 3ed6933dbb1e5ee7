/**
 * What a device really makes of FP32 matrix products: one product whose answer tells. Settings can ask for a
 * precision, but libraries of the device decide.
 */

import type { RuntimeConfig } from "../config/mod.ts";
import { ConfigError, messageOf, UnavailableError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, CompileSettings } from "./backend.ts";

/** `undetermined`: neither of the answers that can be told apart. */
export type ProbedNumerics = "f32" | "tf32" | "undetermined";

const SIZE = 512;

/** A product of two matrices that both come as arguments, so that nothing of it can be worked out before. */
export const NUMERICS_PROBE = `module @numerics_probe {
  func.func public @main(%arg0: tensor<${SIZE}x${SIZE}xf32>, %arg1: tensor<${SIZE}x${SIZE}xf32>) -> tensor<${SIZE}x${SIZE}xf32> {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0] : (tensor<${SIZE}x${SIZE}xf32>, tensor<${SIZE}x${SIZE}xf32>) -> tensor<${SIZE}x${SIZE}xf32>
    return %0 : tensor<${SIZE}x${SIZE}xf32>
  }
}
`;

/**
 * Multiplies a matrix of 1 + k·2⁻²⁰ (k below 512) by the identity. FP32 gives it back bit by bit: every sum
 * has one term that is not 0. TF32 keeps ten bits of a fraction, which makes all of it ones.
 * @throws what the device throws
 */
export async function probeNumerics(
  backend: Backend,
  settings: CompileSettings = {},
): Promise<ProbedNumerics> {
  const matrix = new Float32Array(SIZE * SIZE);
  const identity = new Float32Array(SIZE * SIZE);
  for (let row = 0; row < SIZE; row++) {
    identity[row * SIZE + row] = 1;
    for (let column = 0; column < SIZE; column++) {
      matrix[row * SIZE + column] = 1 + ((row + column) % SIZE) * 2 ** -20;
    }
  }
  const tensor = ({ buffer }: Float32Array<ArrayBuffer>) =>
    ({ datatype: "FP32", shape: [SIZE, SIZE], data: new Uint8Array(buffer) }) as const;
  using program = await backend.compile(new TextEncoder().encode(NUMERICS_PROBE), settings);
  const { outputs } = await backend.run(program, [tensor(matrix), tensor(identity)], []);
  const found = new Float32Array(outputs[0]!.slice().buffer);
  if (found.every((value, index) => value === matrix[index])) return "f32";
  return found.every((value) => value === 1) ? "tf32" : "undetermined";
}

/**
 * Holds a device to `runtime.numerics`, and says in the log what it does.
 * @throws {ConfigError} when it does otherwise: `f32` is not exact, or there is no TF32 where that is asked for
 * @throws {UnavailableError} when `f32` is asked for and the device cannot be tried
 */
export async function checkNumerics(
  { numerics }: Pick<RuntimeConfig, "numerics">,
  { backend, settings, logger }: {
    readonly backend: Backend;
    readonly settings: CompileSettings;
    readonly logger: Logger;
  },
): Promise<void> {
  let found: ProbedNumerics;
  try {
    found = await probeNumerics(backend, settings);
  } catch (error) {
    const reason = messageOf(error);
    if (numerics === "f32") {
      throw new UnavailableError(
        `Whether the device computes float32 exactly, as runtime.numerics f32 asks for, cannot be tried: ${reason}`,
        { cause: error },
      );
    }
    logger.warn("how the device computes float32 products cannot be tried", { reason });
    return;
  }
  if (numerics === "f32" && found !== "f32") {
    throw new ConfigError(
      "The device does not compute float32 products exactly, as runtime.numerics f32 asks for " +
        `(tried: ${found}); set numerics to auto to serve with what it does`,
    );
  }
  if (numerics === "tf32" && found === "f32") {
    throw new ConfigError(
      "The device computes float32 products exactly: it has no TF32, which runtime.numerics asks for " +
        "(compute capability 8.0 or later), or NVIDIA_TF32_OVERRIDE=0 is set; set numerics to auto or f32",
    );
  }
  const fields = { device: backend.deviceKind, asked: numerics, found };
  if (found === "undetermined") {
    logger.warn("how the device computes float32 products is not clear", fields);
  } else logger.info("float32 products", fields);
}
