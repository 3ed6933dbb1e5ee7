/** Program files of a bundle: which exist for which shape variant and batch size. */
import { BundleError } from "../errors.ts";
import { formatVariant, type ShapeVariant } from "./input_shapes.ts";
import { MAX_EXTENT, MAX_PROGRAM_BYTES, MAX_PROGRAM_FILES } from "./limits.ts";
import type { Manifest } from "./manifest.ts";
import { readBoundedFile } from "./bounded_file.ts";

/** One program of a bundle, still on disk. */
export interface ProgramFile {
  /** For example `model.v0.b8.mlir`. */
  readonly fileName: string;
  readonly path: string;
  readonly variant: ShapeVariant;
  /** The `{N}` of `.b{N}`; 0 for the only program of a variant that has no size in its name. */
  readonly batchKey: number;
  /** When the bundle was read. */
  readonly byteLength: number;
}

/** The programs of one shape variant. */
export interface VariantPrograms {
  readonly variant: ShapeVariant;
  /** By ascending batch key; never empty. One program with key 0, or all with their sizes. */
  readonly files: readonly ProgramFile[];
}

/** A directory entry as the loader sees it. */
export interface BundleFile {
  readonly name: string;
  readonly path: string;
  readonly byteLength: number;
}

const PROGRAM_NAME = /^model(?:\.v(\d{1,10}))?(?:\.b(\d{1,10}))?\.mlir$/;

/** Whether a file of this name may be a program. */
export function isProgramName(fileName: string): boolean {
  return PROGRAM_NAME.test(fileName);
}

/**
 * Finds the programs of a regular model among its files.
 * @throws {BundleError} when a variant or a declared batch size has none
 */
export function findPrograms(
  bundle: string,
  manifest: Manifest,
  files: readonly BundleFile[],
): { variants: VariantPrograms[]; warnings: string[] } {
  const candidates = files.filter(({ name }) => isProgramName(name));
  if (candidates.length > MAX_PROGRAM_FILES) {
    throw new BundleError(
      bundle,
      `has ${candidates.length} program files, more than the ${MAX_PROGRAM_FILES} allowed`,
    );
  }
  const sizeless = candidates.find(({ name }) => /\.b0+\.mlir$/.test(name));
  if (sizeless) throw new BundleError(bundle, `${sizeless.name} names the batch size 0`);
  const hasVariants = manifest.variants[0]!.key.length > 0;
  const warnings: string[] = [];
  const used = new Set<string>();
  const variants = manifest.variants.map((variant) => {
    const prefix = hasVariants ? `model.v${variant.index}` : "model";
    const own = filesOf(candidates, prefix, variant);
    for (const file of own) {
      used.add(file.fileName);
      checkSize(bundle, file);
    }
    const sized = own.filter(({ batchKey }) => batchKey > 0);
    if (sized.length === 0) {
      if (own.length === 0) throw missingProgram(bundle, prefix, variant, candidates);
      warnings.push(...checkLoneProgram(manifest, own[0]!));
      return { variant, files: own };
    }
    if (own.length > sized.length) {
      warnings.push(`${prefix}.mlir is ignored, because ${sized[0]!.fileName} exists`);
    }
    checkBatchSizes(bundle, manifest, prefix, sized, warnings);
    return { variant, files: sized };
  });
  const unused = candidates.filter(({ name }) => !used.has(name)).map(({ name }) => name);
  if (unused.length > 0) {
    warnings.push(`these program files belong to no declared variant: ${unused.join(", ")}`);
  }
  return { variants, warnings };
}

/** Reads a program: a StableHLO portable artifact or MLIR text. @throws {BundleError} */
export function readProgram(bundle: string, program: ProgramFile): Promise<Uint8Array> {
  return readBoundedFile(bundle, program.path, program.fileName, MAX_PROGRAM_BYTES);
}

function filesOf(
  candidates: readonly BundleFile[],
  prefix: string,
  variant: ShapeVariant,
): ProgramFile[] {
  return candidates.flatMap(({ name, path, byteLength }): ProgramFile[] => {
    if (name === `${prefix}.mlir`) {
      return [{ fileName: name, path, variant, batchKey: 0, byteLength }];
    }
    const size = name.startsWith(`${prefix}.b`)
      ? name.slice(prefix.length + 2, -".mlir".length)
      : "";
    if (!/^\d+$/.test(size)) return [];
    return [{ fileName: name, path, variant, batchKey: Number(size), byteLength }];
  }).sort((a, b) => a.batchKey - b.batchKey);
}

function checkSize(bundle: string, { fileName, byteLength }: ProgramFile): void {
  if (byteLength === 0) throw new BundleError(bundle, `${fileName} is empty`);
  if (byteLength > MAX_PROGRAM_BYTES) {
    throw new BundleError(
      bundle,
      `${fileName} has ${byteLength} bytes, more than the ${MAX_PROGRAM_BYTES} allowed`,
    );
  }
}

function missingProgram(
  bundle: string,
  prefix: string,
  variant: ShapeVariant,
  candidates: readonly BundleFile[],
): BundleError {
  const found = candidates.map(({ name }) => name).join(", ");
  const owner = variant.key.length === 0
    ? ""
    : ` for input_shapes[${variant.index}] (${formatVariant(variant)})`;
  return new BundleError(
    bundle,
    `has no program${owner}: neither ${prefix}.mlir nor ${prefix}.b{N}.mlir exists` +
      (found === "" ? "" : ` (found ${found})`),
  );
}

/** A program without a size in its name has one all the same; only its signature tells which. */
function checkLoneProgram(manifest: Manifest, { fileName }: ProgramFile): string[] {
  const sizes = manifest.compiledBatchSizes;
  if (sizes.length < 2) return [];
  return [
    `manifest key "batching.compiled_batch_sizes" lists ${
      sizes.join(", ")
    }, but ${fileName} is the ` +
    "only program and serves one size",
  ];
}

function checkBatchSizes(
  bundle: string,
  manifest: Manifest,
  prefix: string,
  sized: readonly ProgramFile[],
  warnings: string[],
): void {
  const sizes = sized.map(({ batchKey }) => batchKey);
  const tooLarge = sized.find(({ batchKey }) => batchKey > MAX_EXTENT);
  if (tooLarge) {
    throw new BundleError(bundle, `${tooLarge.fileName} names a batch size out of range`);
  }
  const twin = sizes.findIndex((size, index) => size === sizes[index - 1]);
  if (twin >= 0) {
    throw new BundleError(
      bundle,
      `${sized[twin - 1]!.fileName} and ${sized[twin]!.fileName} are for the same batch size`,
    );
  }
  const missing = manifest.compiledBatchSizes.filter((size) => !sizes.includes(size));
  if (missing.length > 0) {
    throw new BundleError(
      bundle,
      `manifest key "batching.compiled_batch_sizes" lists ${missing.join(", ")}, but ` +
        `${missing.map((size) => `${prefix}.b${size}.mlir`).join(", ")} does not exist`,
    );
  }
  if (
    sizes.length > 1 && manifest.executableInputs.every((input) => input.batchAxis === undefined)
  ) {
    throw new BundleError(
      bundle,
      `has programs for several batch sizes (${sizes.join(", ")}), but no executable input has a ` +
        "batch axis to choose by",
    );
  }
  const undeclared = sizes.filter((size) => !manifest.compiledBatchSizes.includes(size));
  if (undeclared.length > 0 && manifest.compiledBatchSizes.length > 0) {
    warnings.push(
      `${prefix}.b{N}.mlir also exists for sizes that batching.compiled_batch_sizes does not list: ` +
        undeclared.join(", "),
    );
  }
}
