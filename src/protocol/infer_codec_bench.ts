/** `deno bench src/protocol`: a 3 KB ModelInfer through this codec and through the generated code. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
} from "./gen/inference/grpc_service_pb.ts";
import { decodeInferRequest, encodeInferRequest, encodeInferResponse } from "./infer_codec.ts";
import { peekInferRequest } from "./infer_peek.ts";
import { requestTensors } from "./tensors.ts";
import { ClientContract } from "./validation.ts";

const data = new Uint8Array(784 * 4).map((_, index) => index);
const [request] = encodeInferRequest({
  modelName: "mlp",
  id: "1",
  inputs: [{ name: "x", datatype: "FP32", shape: [1, 784], data }],
});
const contract = new ClientContract("mlp", [
  { name: "x", datatype: "FP32", shape: [-1, 784], batchAxis: 0 },
], []);
const head = { modelName: "mlp", id: "1" };

Deno.bench("hand-written", { group: "decode request", baseline: true }, () => {
  decodeInferRequest([request!]);
});
Deno.bench("hand-written, tensors checked", { group: "decode request" }, () => {
  contract.checkInputs(requestTensors(decodeInferRequest([request!])));
});
Deno.bench("generated", { group: "decode request" }, () => {
  fromBinary(ModelInferRequestSchema, request!);
});
Deno.bench("peek", { group: "decode request" }, () => {
  peekInferRequest([request!], { tensor: "x", isWhole: true });
});

Deno.bench("hand-written", { group: "encode response", baseline: true }, () => {
  encodeInferResponse({
    ...head,
    outputs: [{ name: "y", datatype: "FP32", shape: [1, 784], data }],
  });
});
Deno.bench("generated", { group: "encode response" }, () => {
  toBinary(
    ModelInferResponseSchema,
    create(ModelInferResponseSchema, {
      ...head,
      outputs: [{ name: "y", datatype: "FP32", shape: [1n, 784n] }],
      rawOutputContents: [data],
    }),
  );
});
