/**
 * What a tensor is: datatypes, shapes and named host tensors. No protocol, no device, no bundle: those
 * folders translate to and from what is defined here.
 */
export * from "./aligned.ts";
export * from "./datatype.ts";
export * from "./memory_pool.ts";
export * from "./shape.ts";
export * from "./tensor.ts";
