/** Series of the cache of compiled programs. */

import { ComputedFamily, single } from "./family.ts";
import type { MetricsRegistry } from "./registry.ts";
import type { ExecutableCacheReading, WorkerReadings } from "./worker_readings.ts";

/** Adds the families of the executable cache. */
export function addExecutableCacheFamilies(
  registry: MetricsRegistry,
  readings: WorkerReadings,
): void {
  for (const [figure, type, help, read] of EXECUTABLE_CACHE) {
    const value = () => {
      const cache = readings.executableCache();
      return cache === undefined ? undefined : read(cache);
    };
    const name = `worker_executable_cache_${figure}`;
    registry.add(new ComputedFamily(type, { name, help }, single(value)));
  }
  registry.add(
    new ComputedFamily("counter", {
      name: "worker_executable_cache_errors_total",
      help: "Entries that were damaged, unreadable or refused, and programs left unwritten.",
      labels: ["problem"],
    }, () =>
      Object.entries(readings.executableCache()?.errors ?? {})
        .map(([problem, count]) => [[problem], count])),
  );
}

const EXECUTABLE_CACHE: readonly (readonly [
  figure: string,
  type: "counter" | "gauge",
  help: string,
  read: (cache: ExecutableCacheReading) => number,
])[] = [
  ["hits_total", "counter", "Programs loaded instead of compiled.", (cache) => cache.hits],
  ["misses_total", "counter", "Programs that had to be compiled.", (cache) => cache.misses],
  ["bytes", "gauge", "Compiled programs on disk.", (cache) => cache.bytes],
];
