/** Everything the gateway's gRPC port serves. */

import type { SchedulingMode } from "../config/mod.ts";
import {
  ControlService,
  file_inference_grpc_service,
  file_reactant_control_control,
  GRPCInferenceService,
  methodPath,
} from "../protocol/mod.ts";
import {
  BufferPool,
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
import { schedulingService } from "./scheduling_service.ts";

export interface GatewayMethodsOptions {
  readonly proxy: InferProxy;
  readonly broadcast: Broadcast;
  readonly health: HealthStatus;
  readonly mode: SchedulingMode;
  readonly router: ManagedRouter;
  readonly fleet: FleetServiceOptions;
}

/** All methods, by path; what is not here answers UNIMPLEMENTED. */
export function gatewayMethods(options: GatewayMethodsOptions): MethodTable {
  const { proxy, broadcast, health, fleet, mode, router } = options;
  const memory = new BufferPool();
  return new Map<string, MethodHandler>([
    [methodPath(GRPCInferenceService.method.modelInfer), {
      kind: "unary",
      handle: (message, call) => proxy.handle(message, call, memory),
      memory,
    }],
    ...broadcast.methods(),
    ...fleetService(fleet),
    ...schedulingService({
      mode,
      control: router.control,
      nameOf: (worker) => {
        const name = fleet.pool.get(worker)?.name ?? worker;
        // One that nobody named is called by its address.
        return name === worker ? "" : name;
      },
    }),
    ...healthMethods(health),
    ...reflectionMethods({ files: [file_inference_grpc_service, file_reactant_control_control] }),
  ]);
}

/** Tells the health service whether requests can be answered. */
export function announce(health: HealthStatus, isReady: boolean): void {
  const services = ["", GRPCInferenceService.typeName, ControlService.typeName];
  for (const service of services) health.set(service, isReady ? "SERVING" : "NOT_SERVING");
}
