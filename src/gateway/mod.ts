/**
 * The gateway: one KServe V2 endpoint in front of several workers. It routes ModelInfer by what
 * discovery knows, passes messages on as they came, and answers for the fleet as one worker would for
 * itself. It never decodes a tensor, loads no model and has no device.
 */

export { type GatewayOptions, runGateway } from "./gateway.ts";
