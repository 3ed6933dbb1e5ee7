/** How many routing decisions one core makes: a reservation, its first worker, and its release. */

import process from "node:process";
import { ROUTERS } from "../../src/gateway/routing/mod.ts";
import { silentLogger } from "../../src/log.ts";
import type { Scenario } from "./scenarios.ts";
import { Popularity, seededRandom } from "./workload.ts";

/** Reservations in flight, as under load. */
const IN_FLIGHT = 256;
const ROUNDS = 5;

/**
 * Decisions per second of processor time, collection of garbage included: the best of some rounds, on a
 * fleet of this size.
 */
export function routingSpeed(
  { scheduling }: Scenario,
  { workers, models, decisions }: {
    readonly workers: number;
    readonly models: number;
    readonly decisions: number;
  },
): number {
  const random = seededRandom(1);
  const ids = Array.from({ length: workers }, (_, index) => `10.0.0.${index}:8080`).sort();
  const names = Array.from({ length: models }, (_, index) => `model${index}`);
  const popularity = new Popularity(models, 1, random);
  const asked = Array.from({ length: 8192 }, () => names[popularity.next()]!);
  const router = ROUTERS[scheduling.mode]({
    scheduling,
    log: silentLogger,
    now: () => 0,
    unixNow: () => 0,
  });
  router.discovered({ routes: new Map(names.map((name) => [name, ids])), ready: ids });
  router.report({
    atSeconds: 0,
    workers: ids.map((worker) => ({
      worker,
      discipline: "fifo",
      weightBudgetBytes: 0,
      models: names.map((name) => ({
        name,
        weightBytes: 1e9,
        computeSeconds: 1,
        requests: 100,
        rows: 200,
        maxBatchSize: 8,
        batchInput: "x",
        batchAxis: 1,
      })),
    })),
  });
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const inFlight = new Array<ReturnType<typeof router.reserve>>(IN_FLIGHT);
    let checksum = 0;
    const before = process.cpuUsage();
    for (let decision = 0; decision < decisions; decision++) {
      const slot = decision % IN_FLIGHT;
      inFlight[slot]?.release();
      const model = asked[decision & 8191]!;
      router.arrived(model);
      const reservation = router.reserve(model, 1 + (decision & 3))!;
      checksum += reservation.first.length;
      inFlight[slot] = reservation;
    }
    const { user, system } = process.cpuUsage(before);
    const seconds = (user + system) / 1e6;
    for (const reservation of inFlight) reservation?.release();
    if (checksum === 0) throw new Error("nothing was routed");
    best = Math.max(best, decisions / seconds);
  }
  return best;
}
