/**
 * What the bytes on the wire mean: KServe V2 inference, the control services, and the tensors in them.
 * ModelInfer is decoded and encoded by hand without copying tensors; every other message goes through
 * the code generated from `proto/`. There are no sockets here and no statuses: a message is a list of
 * chunks, and what is wrong with one is an error that says so.
 */

export * from "./infer_codec.ts";
export * from "./infer_peek.ts";
export * from "./messages.ts";
export {
  type InferParameter,
  type InferParameters,
  NO_PARAMETERS,
  remainingBudgetMs,
  sharedMemoryParameters,
  type SharedMemoryReference,
  sharedMemoryReference,
} from "./parameters.ts";
export {
  inputName,
  NO_REGIONS,
  quoted,
  requestTensors,
  responseTensors,
  type SharedMemoryRegions,
} from "./tensors.ts";
export { ClientContract, type DeclaredTensor, type WantedOutput } from "./validation.ts";
export * from "./gen/inference/grpc_service_pb.ts";
export * from "./gen/inference/model_config_pb.ts";
export * from "./gen/reactant_control/control_pb.ts";
