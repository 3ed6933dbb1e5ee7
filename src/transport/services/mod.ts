/**
 * The services that say something about a listener rather than about models: health and reflection.
 * They know their own messages only; what is true is told to them.
 */

export { healthMethods, HealthStatus, type ServingStatus } from "./health.ts";
export { reflectionMethods, type ReflectionOptions } from "./reflection.ts";
