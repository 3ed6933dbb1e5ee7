/**
 * The node supervisor: finds the devices, starts one worker per device and a gateway in front of several,
 * and keeps them running. Children are processes of this same program, which report over a socket; the
 * supervisor imports neither worker nor gateway.
 */
export { CONFIG_EXIT_CODE } from "./child.ts";
export { detectDevices, type DetectedDevices, type DeviceProbes } from "./device_detection.ts";
export { machineProbes } from "./device_probes.ts";
export { GATEWAY_NAME, type GatewayPlan, STANDARD_GATEWAY_FILE } from "./gateway_plan.ts";
export { findWrittenFile } from "./node_folder.ts";
export { type NodeInputs, type NodePlan, planNode } from "./node_plan.ts";
export { exists, findNodeFile, STANDARD_NODE_FILE } from "./node_source.ts";
export { LISTEN_VARIABLES, localAddress, PUBLIC_PORTS, publicAddress } from "./ports.ts";
export { processorLimits } from "./processors.ts";
export { chooseRole } from "./role.ts";
export { supervise, type SuperviseOptions } from "./supervisor.ts";
export type { WorkerPlan } from "./worker_plans.ts";
