/** Figures of a server's `/metrics`. */

import type { TestServer } from "../server.ts";

/** Values by series, for example `worker_native_handles{kind="buffer"}`; worker and gpu labels left out. */
export type Series = ReadonlyMap<string, number>;

/** Reads every series once. */
export async function readMetrics(server: Pick<TestServer, "http">): Promise<Series> {
  const { body } = await server.http("/metrics");
  const values = new Map<string, number>();
  for (const line of body.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = match[2]?.split(",").filter((label) => !/^(worker|gpu)=/.test(label)).join(",");
    values.set(labels ? `${match[1]}{${labels}}` : match[1]!, Number(match[3]));
  }
  return values;
}

/** The sum of all series of a family whose labels match. */
export function total(series: Series, family: string, labels = /(?:)/): number {
  let sum = 0;
  for (const [name, value] of series) {
    const at = name.indexOf("{");
    const [own, rest] = at < 0 ? [name, ""] : [name.slice(0, at), name.slice(at)];
    if (own === family && labels.test(rest)) sum += value;
  }
  return sum;
}
