/**
 * A small typed client of the inference protocol, for our own tools and tests. It turns calls into
 * messages and answers into tensors; connecting, retrying and deadlines belong to the transport it is
 * given.
 */
export * from "./infer.ts";
export * from "./model.ts";
