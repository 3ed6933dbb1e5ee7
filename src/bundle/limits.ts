/**
 * How much of anything a bundle may contain. A bundle is data from somebody else: reading one must not
 * take more memory or time than a real model of the largest kind would. All far above real use.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** Bytes of `manifest.yaml`. Real ones have a few KiB; the YAML parser needs up to 10 µs per byte. */
export const MAX_MANIFEST_BYTES = 256 * KIB;
/** Alias expansions in `manifest.yaml`, counted by the YAML library. */
export const MAX_MANIFEST_ALIASES = 100;
/** Tensors in one manifest section. */
export const MAX_SECTION_TENSORS = 4096;
/** Characters of a tensor name. */
export const MAX_NAME_LENGTH = 1024;
/** Extent of one activation axis, and largest batch size. */
export const MAX_EXTENT = 2 ** 31 - 1;
/** Entries of `input_shapes`. */
export const MAX_VARIANTS = 1024;
/** Entries of `batching.compiled_batch_sizes`. */
export const MAX_BATCH_SIZES = 1024;
/** Entries of `meta.calls`. */
export const MAX_CALLS = 1024;

/** Bytes of the JSON header of `weights.safetensors`; the cap of the format's own library. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Tensors in a safetensors file. The largest published mixture-of-experts models have about 90 000. */
export const MAX_FILE_TENSORS = 250_000;
/** Axes of a weight. */
export const MAX_WEIGHT_RANK = 32;
/** Entries of `__metadata__`. */
export const MAX_METADATA_ENTRIES = 10_000;

/** Bytes of one program file: the most a serialised StableHLO module can have. */
export const MAX_PROGRAM_BYTES = 2 * GIB - 1;
/** Program files of one bundle. */
export const MAX_PROGRAM_FILES = 4096;
/** Bytes of a hook file; they are handed to the module loader as one URL. */
export const MAX_HOOK_BYTES = 16 * MIB;

/** Directory entries looked at in one bundle, sub-folders included. */
export const MAX_BUNDLE_ENTRIES = 10_000;
/** Depth of sub-folders looked at for hook assets. */
export const MAX_BUNDLE_DEPTH = 8;
/** Entries of one model directory. */
export const MAX_ROOT_ENTRIES = 100_000;
