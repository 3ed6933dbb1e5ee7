/**
 * The parts of the C library that Deno does not offer: memory mappings, POSIX shared memory, file locks,
 * processor affinity, and whether a descriptor takes output. Everything returned is owned by the caller
 * and disposed once. Linux, 64-bit.
 */
export { SystemCallError } from "../errors.ts";
export * from "./affinity.ts";
export { EACCES, EAGAIN, errnoName } from "./errno.ts";
export * from "./exit.ts";
export * from "./flock.ts";
export * from "./malloc.ts";
export { Mapping } from "./mmap.ts";
export * from "./poll.ts";
export * from "./shared_memory.ts";
export * from "./shared_object.ts";
