/**
 * Bundles: models on disk. This folder reads a directory of manifest, programs, weights and hook file,
 * checks everything that can be checked without a device, and hands out what it declares in wire order.
 * It compiles nothing, runs no hook and watches nothing.
 */
export * from "./bundle.ts";
export * from "./fingerprint.ts";
export * from "./golden.ts";
export * from "./hooks.ts";
export { formatVariant, selectVariant, type ShapeVariant } from "./input_shapes.ts";
export { batchInputOf, type Manifest } from "./manifest.ts";
export type { AxisOrder, ManifestTensor, VariableAxis } from "./manifest_tensors.ts";
export { type ProgramFile, readProgram, type VariantPrograms } from "./programs.ts";
export * from "./repository.ts";
export { type CheckedSignature, checkSignature, type ProgramSignature } from "./signature.ts";
export { weightFileIdentity } from "./weight_file.ts";
export { Weights, WEIGHTS_FILE, type WeightSpec } from "./weights.ts";
