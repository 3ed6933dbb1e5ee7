/**
 * The PJRT C API as it is: a library, its function table, argument structs and enums, errors. Who owns
 * what, and what a program or a tensor is, belongs to `src/runtime`.
 */
export * from "./api.ts";
export * from "./elf.ts";
export * from "./enums.ts";
export * from "./functions.ts";
export * from "./plugin.ts";
export * from "./structs.ts";
