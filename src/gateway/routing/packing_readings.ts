/** The gauges of `lpt_packing`. */

import type { WorkBasis } from "../../config/mod.ts";
import type { PackingSubject } from "../packing/control.ts";
import type { PackingReadings, RouterReadings } from "./managed_router.ts";

/** Reads everything at once; sorted by model, then worker. */
export function packingReadings(subject: PackingSubject, workBasis: WorkBasis): RouterReadings {
  const { planner, routes, loads } = subject;
  const { placement } = planner;
  const models: PackingReadings["models"][number][] = [];
  const replicas: PackingReadings["replicas"][number][] = [];
  const hosts = new Set<string>();
  for (const [model, route] of [...routes].sort(([a], [b]) => a < b ? -1 : 1)) {
    const placed = placement.get(model) ?? [];
    models.push({
      model,
      replicas: placed.length,
      utilization: planner.demandOf(model).utilization,
      fillQuantum: route.plan.quantum,
    });
    const byWorker = [...route.replicas.values()].sort((a, b) => a.worker < b.worker ? -1 : 1);
    for (const { worker, items, routed } of byWorker) {
      const isPlaced = placed.includes(worker);
      if (isPlaced) hosts.add(worker);
      replicas.push({
        model,
        worker,
        weight: isPlaced ? 1 / placed.length : 0,
        outstanding: items,
        routedTotal: routed,
      });
    }
  }
  return {
    workBasis,
    // A worker that hosts nothing has no series, unless something is still in flight there.
    inflightWork: loads.readings().filter(({ worker, work }) => hosts.has(worker) || work > 0),
    packing: { models, replicas, repacks: planner.repacks },
  };
}
