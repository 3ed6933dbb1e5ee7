/**
 * Answers in place of Grafana's server: `/api/ds/query` with frames as its Prometheus source makes them, and
 * what the source's `resources` pass on to Prometheus.
 */

/** As in `docker/prometheus/prometheus.yml`, and in the provisioned source. */
const SCRAPE_MS = 15_000;

/** @param prometheus its address @param sent takes every expression, as Prometheus gets it */
exports.answer = async (prometheus, { url, method, params, data }, sent) => {
  if (url.startsWith("/api/ds/query")) {
    const results = {};
    for (const query of data.queries) {
      results[query.refId] = await runQuery(
        prometheus,
        query,
        Number(data.from),
        Number(data.to),
        sent,
      );
    }
    return { results };
  }
  const [path, own] = url.split("/resources/")[1].split("?");
  const body = new URLSearchParams(method === "POST" ? data : own ?? params);
  return await ask(prometheus, path, method, body);
};

async function runQuery(prometheus, query, fromMs, toMs, sent) {
  const stepMs = Math.max(query.intervalMs, SCRAPE_MS);
  const align = (ms) => String(Math.floor(ms / stepMs) * stepMs / 1000);
  const expression = query.expr
    .replaceAll("$__rate_interval", `${Math.max(query.intervalMs + SCRAPE_MS, 4 * SCRAPE_MS)}ms`)
    .replaceAll("$__range", `${Math.round((toMs - fromMs) / 1000)}s`);
  const [path, times] = query.instant
    ? ["query", { time: align(toMs) }]
    : ["query_range", { start: align(fromMs), end: align(toMs), step: String(stepMs / 1000) }];
  const body = new URLSearchParams({ query: expression, ...times });
  const { data, error } = await ask(prometheus, `api/v1/${path}`, "POST", body);
  sent({ expression, error });
  if (error !== undefined) return { status: 400, error, frames: [] };
  const frames = data.result.map((series) => frame(query, expression, series));
  return {
    status: 200,
    frames: frames.length > 0 ? frames : [{ schema: { fields: [] }, data: { values: [] } }],
  };
}

function frame({ refId, legendFormat }, expression, { metric: labels, values, value }) {
  const name = legendFormat === "__auto"
    ? Object.keys(labels).length === 0 ? expression : ""
    : legendFormat.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] ?? "");
  const points = values ?? [value];
  return {
    schema: {
      refId,
      name: name || undefined,
      meta: { type: "timeseries-multi" },
      fields: [
        { name: "Time", type: "time" },
        { name: "Value", type: "number", labels, config: name ? { displayNameFromDS: name } : {} },
      ],
    },
    data: {
      values: [points.map(([seconds]) => seconds * 1000), points.map(([, text]) => toNumber(text))],
    },
  };
}

function toNumber(text) {
  return text.endsWith("Inf")
    ? Number(`${text.replace("+", "").replace("Inf", "Infinity")}`)
    : Number(text);
}

async function ask(prometheus, path, method, body) {
  const response = method === "POST"
    ? await fetch(`${prometheus}/${path}`, { method, body })
    : await fetch(`${prometheus}/${path}?${body}`);
  return await response.json();
}
