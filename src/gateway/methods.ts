/** Everything the gateway's gRPC port serves. */

import {
  ControlService,
  file_inference_grpc_service,
  file_reactant_control_control,
  GRPCInferenceService,
  methodPath,
} from "../protocol/mod.ts";
import {
  healthMethods,
  type HealthStatus,
  type MethodHandler,
  type MethodTable,
  reflectionMethods,
} from "../transport/mod.ts";
import type { Broadcast } from "./broadcast.ts";
import { fleetService, type FleetServiceOptions } from "./fleet_service.ts";
import type { InferProxy } from "./infer_proxy.ts";
import type { ManagedRouter } from "./routing/mod.ts";

export interface GatewayMethodsOptions {
  readonly proxy: InferProxy;
  readonly broadcast: Broadcast;
  readonly health: HealthStatus;
  readonly router: ManagedRouter;
  readonly fleet: FleetServiceOptions;
}

/** All methods, by path; what is not here answers UNIMPLEMENTED. */
export function gatewayMethods(options: GatewayMethodsOptions): MethodTable {
  const { proxy, broadcast, health, fleet } = options;
  return new Map<string, MethodHandler>([
    [methodPath(GRPCInferenceService.method.modelInfer), {
      kind: "unary",
      handle: (message, call) => proxy.handle(message, call),
    }],
    ...broadcast.methods(),
    ...fleetService(fleet),
    ...healthMethods(health),
    ...reflectionMethods({ files: [file_inference_grpc_service, file_reactant_control_control] }),
  ]);
}

/** Tells the health service whether requests can be answered. */
export function announce(health: HealthStatus, isReady: boolean): void {
  const services = ["", GRPCInferenceService.typeName, ControlService.typeName];
  for (const service of services) health.set(service, isReady ? "SERVING" : "NOT_SERVING");
}
