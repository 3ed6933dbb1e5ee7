/**
 * Metrics and the HTTP listener that shows them. Families are declared here and nowhere else; other
 * folders report events or are read at scrape time. It knows no model, no scheduler and no runtime.
 */
export * from "./gateway_metrics.ts";
export { gpuLabel } from "./gpu_label.ts";
export * from "./http_endpoint.ts";
export { mergeExpositions } from "./merge.ts";
export * from "./worker_metrics.ts";
export type * from "./worker_readings.ts";
