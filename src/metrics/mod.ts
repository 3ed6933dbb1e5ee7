/**
 * Metrics and the HTTP listener that shows them. Families are declared here and nowhere else; other
 * folders report events or are read at scrape time. It knows no model, no scheduler and no runtime.
 */
export * from "./http_endpoint.ts";
export * from "./worker_metrics.ts";
