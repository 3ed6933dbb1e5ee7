/**
 * Which workers hold which models: demand and cost learned from polls, a packing pass as a pure
 * function, and the settings that operators may change while it all runs. Nothing here does I/O, holds
 * a timer or sees a request; the router of `lpt_packing` joins the plan with what is in flight.
 */
export type * from "./control_types.ts";
export { checkPackable, type FleetReadiness, fleetReadiness } from "./preconditions.ts";
export type { LivePolicy, ModelPolicyChange } from "./policy.ts";
