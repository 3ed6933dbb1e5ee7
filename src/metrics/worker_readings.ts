/** What a worker is asked for at each scrape, and how it is described. */

/** A model's figures at this moment. */
export interface ModelReading {
  readonly name: string;
  readonly queueDepth: number;
  readonly weightBytes: number;
  /** Its weights are on the device now. */
  readonly isResident: boolean;
  /** They stay there for good. */
  readonly isPinned: boolean;
  /** Largest batch with the configured cap; 0 without a batch axis. */
  readonly maxBatchSize: number;
  /** Device seconds of late, as the scheduler weighs them. */
  readonly recentComputeSeconds: number;
  /** Seconds a dispatch is expected to take, by compiled size. */
  readonly costSeconds: ReadonlyMap<number, number>;
}

/** What a meta model has done since it was first loaded. */
export interface MetaReading {
  readonly name: string;
  /** Successful runs. */
  readonly dispatches: number;
  /** Spent in the models those called. */
  readonly computeSeconds: number;
}

/** The threads that run a model's hooks. */
export interface HookReading {
  readonly name: string;
  readonly threads: number;
  /** What V8 has taken for their heaps, in use or not. */
  readonly heapBytes: number;
  /** Outside the heaps, for their objects. */
  readonly externalBytes: number;
}

/** Device memory at this moment, in bytes; `undefined` figures are not exported. */
export interface DeviceMemoryReading {
  readonly inUseBytes: number | undefined;
  readonly limitBytes: number | undefined;
  readonly peakInUseBytes: number | undefined;
  readonly poolBytes: number | undefined;
  /** All that the process has of the device's memory, whoever gave it out. */
  readonly processUsedBytes: number | undefined;
}

/** The cache of compiled programs: counts since the start, and its size on disk. */
export interface ExecutableCacheReading {
  readonly hits: number;
  readonly misses: number;
  /** By what was wrong. */
  readonly errors: Readonly<Record<string, number>>;
  readonly bytes: number;
}

/** Weights that come and go, in bytes on the device; counts since the start. */
export interface WeightReading {
  /** On demand, now. */
  readonly residentBytes: number;
  /** On demand, at most. */
  readonly maxBytes: number;
  readonly pinnedBytes: number;
  readonly maxScratchBytes: number;
  /** All weights together, at most. */
  readonly poolBytes: number;
  readonly loads: number;
  readonly loadSeconds: number;
  readonly loadedBytes: number;
  readonly evictions: number;
  readonly compactions: number;
}

/** What is asked of the worker at each scrape. */
export interface WorkerReadings {
  /** Called before the others, for what takes time to find out. Must not reject. */
  prepare(): Promise<void>;
  /** Regular models that are loaded. A model that is not named loses its per-model series. */
  models(): Iterable<ModelReading>;
  /** Meta models that are loaded. */
  metas(): Iterable<MetaReading>;
  /** Models with hooks, metas included. */
  hooks(): Iterable<HookReading>;
  /** Models of which an older version serves because the newest bundle could not be loaded. */
  failedUpdates(): Iterable<string>;
  inflightRequests(): number;
  requestsShed(): number;
  /** `undefined` while there is no device yet. */
  deviceMemory(): DeviceMemoryReading | undefined;
  /** `undefined` where all weights stay on the device. */
  weights(): WeightReading | undefined;
  /** Native runtime handles alive, by kind. */
  nativeHandles(): Readonly<Record<string, number>>;
  /** `undefined` where there is none. */
  executableCache(): ExecutableCacheReading | undefined;
}

export interface WorkerMetricsOptions {
  readonly worker: string;
  /** The physical device; empty on a CPU. See `gpuLabel`. */
  readonly gpu: string;
  readonly deviceOrdinal: number;
  /** `static`, `dynamic` or `explicit`. */
  readonly controlMode: string;
  readonly discipline: string;
  /** 0: no cap. */
  readonly maxConcurrentRequests: number;
  /** gRPC paths that are served; any other path shares one label. */
  readonly methods: Iterable<string>;
  readonly readings: WorkerReadings;
}
