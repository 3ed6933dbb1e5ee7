/**
 * One inference worker: models on one device, served over KServe V2. It wires bundles, runtime,
 * scheduler and transport together; none of them knows of it.
 */
export { runWorker, type WorkerOptions } from "./worker.ts";
