/** PromQL as the dashboards need it, over series that the program is known to export. */

/** Series of every worker, on any device. */
export const WORKER_SERIES = [
  "worker_info",
  "worker_dispatch_total",
  "worker_compute_seconds_total",
  "worker_requests_served_total",
  "worker_rows_served_total",
  "worker_queue_depth",
  "worker_queue_wait_seconds",
  "worker_request_latency_seconds_bucket",
  "worker_request_latency_seconds_count",
  "worker_model_max_batch_size",
  "worker_model_resident",
  "worker_model_weight_bytes",
  "worker_model_cost_seconds",
  "worker_stage_latency_seconds_bucket",
  "worker_batch_size_sum",
  "worker_models_resident",
  "worker_resident_weight_bytes",
] as const;

/** Series that begin with the first hook that fails, or the first run of a meta model. */
export const CODE_SERIES = [
  "worker_hook_failures_total",
  "worker_meta_gate_wait_seconds_bucket",
  "worker_scratch_wait_seconds_bucket",
] as const;

/** Series of workers that account for memory by weights: exported with a weight budget. */
export const WEIGHT_CACHE_SERIES = [
  "worker_weight_cache_max_bytes",
  "worker_weight_cache_pinned_bytes",
  "worker_weight_cache_max_scratch_bytes",
  "worker_weight_cache_resident_bytes",
  "worker_weight_loads_total",
  "worker_weight_evicts_total",
] as const;

/** Series of device memory: on a GPU from its allocator and driver, on a CPU from the worker. */
export const DEVICE_MEMORY_SERIES = [
  "worker_device_memory_in_use_bytes",
  "worker_device_memory_limit_bytes",
  "worker_device_memory_free_bytes",
  "worker_device_memory_peak_in_use_bytes",
  "worker_device_memory_process_used_bytes",
  "worker_device_memory_out_of_pool_bytes",
] as const;

/** Series of a gateway, whatever its mode. */
export const GATEWAY_SERIES = [
  "gateway_requests_total",
  "gateway_request_latency_seconds_bucket",
  "gateway_worker_latency_seconds_bucket",
  "gateway_routing_table_size",
  "gateway_worker_ready",
  "gateway_worker_metrics_up",
  "gateway_inflight_requests",
  "gateway_requests_shed_total",
] as const;

/** Series of a gateway that looks at load, or places models. */
export const PLACEMENT_SERIES = [
  "gateway_worker_inflight_work",
  "gateway_placement_weight",
  "gateway_model_replicas",
  "gateway_model_utilization",
  "gateway_replica_outstanding",
  "gateway_replica_routed_total",
] as const;

/** Any series that a panel may show. */
export type Series =
  | (typeof WORKER_SERIES)[number]
  | (typeof CODE_SERIES)[number]
  | (typeof WEIGHT_CACHE_SERIES)[number]
  | (typeof DEVICE_MEMORY_SERIES)[number]
  | (typeof GATEWAY_SERIES)[number]
  | (typeof PLACEMENT_SERIES)[number];

/** The dashboard variable `worker` as a matcher. */
export const OF_WORKER = 'worker=~"$worker"';
/** The dashboard variable `model` as a matcher: Grafana makes a regular expression of any number of names. */
export const OF_MODELS = 'model=~"$model"';
/** The same where it is one name, which Grafana puts there as it is: `a.b` and `c++` are no expressions. */
export const OF_THE_MODEL = 'model="$model"';

/** A series with matchers. */
export function select(series: Series, ...matchers: readonly string[]): string {
  return matchers.length === 0 ? series : `${series}{${matchers.join(",")}}`;
}

/** Per second, over the interval that suits the panel's resolution. */
export function rate(series: Series, ...matchers: readonly string[]): string {
  return `rate(${select(series, ...matchers)}[$__rate_interval])`;
}

/** Per second, over all the time the dashboard shows. */
export function rangeRate(series: Series, ...matchers: readonly string[]): string {
  return `rate(${select(series, ...matchers)}[$__range])`;
}

/** The sum, by labels if any are given. */
export function sum(expression: string, ...labels: readonly string[]): string {
  return aggregate("sum", expression, labels);
}

/** The largest, by labels if any are given. */
export function max(expression: string, ...labels: readonly string[]): string {
  return aggregate("max", expression, labels);
}

function aggregate(operator: string, expression: string, labels: readonly string[]): string {
  return labels.length === 0
    ? `${operator}(${expression})`
    : `${operator} by (${labels.join(", ")}) (${expression})`;
}

/** A quotient that is nothing, rather than infinite, where its divisor is 0. */
export function ratio(dividend: string, divisor: string): string {
  return `${dividend} / (${divisor} > 0)`;
}

/** An expression by model, or 0 of the model `none` while it has nothing at all: a legend needs a name. */
export function orNothing(expression: string): string {
  return `${expression} or on() label_replace(vector(0), "model", "none", "", "")`;
}

/** What an expression by model says of the models that another one has. */
export function among(models: string, expression: string): string {
  return `${expression} and on (model) ${models}`;
}

/** A quantile of a histogram's rates; `by` besides `le`. */
export function quantile(
  share: number,
  rates: string,
  ...by: readonly string[]
): string {
  return `histogram_quantile(${share}, ${sum(rates, "le", ...by)})`;
}

/** Share of failed gateway requests; 0 while there are none. */
export function errorShare(...matchers: readonly string[]): string {
  const all = sum(rate("gateway_requests_total", ...matchers));
  const failed = sum(rate("gateway_requests_total", ...matchers, 'status!="OK"'));
  return `(${ratio(failed, all)}) or vector(0)`;
}
