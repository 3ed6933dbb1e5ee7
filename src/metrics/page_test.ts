import assert from "node:assert/strict";
import { Logger } from "../log.ts";
import { CounterFamily } from "./family.ts";
import { serveHttp } from "./http_endpoint.ts";
import {
  formatBytes,
  formatNumber,
  formatSeconds,
  formatShare,
  increases,
  labelValues,
  narrow,
  parseExposition,
  quantileOf,
  rate,
  summarize,
  total,
} from "./page/page.js";
import { MetricsRegistry } from "./registry.ts";

/** A reading of this text at this second. */
function reading(seconds: number, text: string) {
  return { atMs: seconds * 1000, series: parseExposition(text) };
}

Deno.test("parseExposition() reads names, escaped labels and every kind of number", () => {
  const series = parseExposition([
    "# HELP a b",
    "# TYPE a counter",
    "a 1",
    'b{x="1",y="a,b=\\"c\\" } \\\\ \\n",} 2.5e3 1700000000',
    'b{x="é"} +Inf',
    "c{} -Inf",
    "d NaN",
    "",
    "no number here",
    "broken{ 1",
    "e not_a_number",
  ].join("\n"));
  assert.deepEqual([...series.keys()], ["a", "b", "c", "d"]);
  assert.equal(total(series, "a"), 1);
  assert.deepEqual({ ...series.get("b")![0]!.labels }, { x: "1", y: 'a,b="c" } \\ \n' });
  assert.equal(series.get("b")![0]!.value, 2500);
  assert.equal(total(series, "b", { x: "é" }), Infinity);
  assert.equal(total(series, "c"), -Infinity);
  assert.ok(Number.isNaN(total(series, "d")));
  assert.equal(total(series, "none"), undefined);
});

Deno.test("parseExposition() keeps labels that are named like what objects have", () => {
  const series = parseExposition(
    'a{__proto__="1",constructor="2"} 3\na{constructor="4"} 5\n__proto__ 6',
  );
  assert.equal(total(series, "a", { constructor: "2" }), 3);
  assert.equal(total(series, "__proto__"), 6);
});

Deno.test("parseExposition() reads what the program writes, whatever a model is called", async () => {
  const name = 'a "model"\\ of {two},\nlines=1';
  const registry = new MetricsRegistry({ worker: "w0" });
  const family = { name: "worker_requests_total", help: "h", labels: ["model", "status"] };
  registry.add(new CounterFamily(family)).child(name, "OK").add();
  const series = parseExposition(await registry.text());
  assert.equal(total(series, "worker_requests_total", { model: name, status: "OK" }), 1);
  assert.deepEqual(labelValues(series, ["worker_requests_total"], "model"), [name]);
});

Deno.test("rate() is the growth per second, and survives a restart", () => {
  const before = reading(10, 'c{m="a"} 100\nc{m="b"} 50');
  const now = reading(14, 'c{m="a"} 140\nc{m="b"} 8\nc{m="new"} 4');
  assert.equal(rate(before, now, "c", { m: "a" }), 10);
  assert.equal(rate(before, now, "c", { m: "b" }), 2);
  assert.equal(rate(before, now, "c"), 13);
  assert.equal(rate(before, now, "none"), undefined);
  assert.equal(rate(undefined, now, "c"), undefined);
  assert.equal(rate(now, now, "c"), undefined);
  const swapped = reading(15, 'c{b="2",a="1"} 3');
  assert.deepEqual(
    increases(parseExposition('c{a="1",b="2"} 1'), swapped.series, "c")[0]!.value,
    2,
  );
});

function histogram(counts: readonly number[], labels = ""): string {
  const bounds = ["0.1", "0.2", "0.4", "+Inf"];
  return bounds.map((le, index) => `h_bucket{${labels}le="${le}"} ${counts[index]}`).join("\n");
}

Deno.test("quantileOf() interpolates like histogram_quantile, over what was seen in between", () => {
  const before = reading(0, histogram([100, 100, 100, 100]));
  const at = (quantile: number, counts: readonly number[]) =>
    quantileOf(before, reading(1, histogram(counts)), "h", quantile);
  // 10 new ones up to 0.1, 10 up to 0.2.
  assert.equal(at(0.5, [110, 120, 120, 120]), 0.1);
  assert.equal(at(0.25, [110, 120, 120, 120]), 0.05);
  assert.ok(Math.abs(at(0.75, [110, 120, 120, 120])! - 0.15) < 1e-12);
  assert.ok(Math.abs(at(0.99, [100, 100, 200, 200])! - 0.398) < 1e-12);
  assert.equal(at(0.99, [100, 100, 100, 101]), 0.4);
  assert.equal(at(0.5, [100, 100, 100, 100]), undefined);
  assert.equal(quantileOf(undefined, before, "h", 0.5), undefined);
  // Two models together.
  const both = reading(
    1,
    histogram([10, 10, 10, 10], 'm="a",') + "\n" + histogram([0, 0, 10, 10], 'm="b",'),
  );
  assert.equal(quantileOf(reading(0, ""), both, "h", 0.5), 0.1);
  assert.equal(quantileOf(reading(0, ""), both, "h", 0.75)!.toFixed(6), "0.300000");
});

Deno.test("numbers are short and say their unit", () => {
  assert.deepEqual(
    [undefined, 0, 3, 2.345, 123.4, 9999, 12_345, 7_654_321].map((n) => formatNumber(n)),
    [
      "–",
      "0",
      "3",
      "2.3",
      "123",
      "9999",
      "12.3 k",
      "7.7 M",
    ],
  );
  assert.deepEqual([undefined, 0, 1023, 1536, 2 ** 30 * 150].map(formatBytes), [
    "–",
    "0 B",
    "1023 B",
    "1.5 KiB",
    "150 GiB",
  ]);
  assert.deepEqual([undefined, 0.00005, 0.0021, 0.25, 2.5, 61].map(formatSeconds), [
    "–",
    "50 µs",
    "2.1 ms",
    "250 ms",
    "2.50 s",
    "61 s",
  ]);
  assert.deepEqual([undefined, 0, 0.042, 0.5, 1.2].map(formatShare), [
    "–",
    "0.0 %",
    "4.2 %",
    "50 %",
    "120 %",
  ]);
});

const WORKER = (requests: number) => `
worker_info{worker="w0",discipline="edf"} 1
worker_model_resident{worker="w0",model="a"} 1
worker_model_resident{worker="w0",model="b"} 0
worker_model_pinned{worker="w0",model="a"} 1
worker_requests_total{worker="w0",model="a",status="OK"} ${requests}
worker_requests_total{worker="w0",model="a",status="INTERNAL"} ${requests / 10}
worker_rows_served_total{worker="w0",model="a"} ${requests * 4}
worker_dispatch_total{worker="w0",model="a"} ${requests / 2}
worker_compute_seconds_total{worker="w0",model="a"} ${requests / 400}
worker_queue_depth{worker="w0",model="a"} 3
`;

Deno.test("summarize() shows a worker: its models, their residency, rates and batches", () => {
  const { isGateway, workers, models, placement, figures } = summarize(
    reading(0, WORKER(0)),
    reading(2, WORKER(200)),
  );
  assert.equal(isGateway, false);
  assert.equal(placement, undefined);
  const row = (table: typeof models, index: number) =>
    Object.fromEntries(
      table.rows[index]!.map((cell, column) => [table.columns[column]!.name, cell.text]),
    );
  assert.deepEqual(figures.slice(0, 2).map(({ text }) => text), ["110", "10"]);
  const shown = row(models, 0);
  assert.equal(shown["Model"], "a");
  assert.equal(shown["Weights"], "pinned");
  assert.equal(shown["Requests/s"], "110");
  assert.equal(shown["Failed/s"], "10");
  assert.equal(shown["Rows per run"], "8");
  assert.equal(shown["Busy"], "25 %");
  assert.equal(shown["Waiting"], "3");
  assert.equal(row(models, 1)["Weights"], "not on device");
  assert.equal(row(workers, 0)["Scheduling"], "edf");
  assert.ok(
    models.rows.concat(workers.rows).every((cells) =>
      cells.length === models.columns.length || cells.length === workers.columns.length
    ),
  );
});

Deno.test("summarize() shows a bundle that was never loaded, and says when there is none", () => {
  const text = `
worker_info{worker="w0",discipline="fair"} 1
worker_bundle_load_failures_total{worker="w0",model="broken"} 2
worker_bundle_load_failures_total{worker="w0",model="mended"} 1
worker_model_resident{worker="w0",model="mended"} 1
`;
  const { models } = summarize(undefined, reading(0, text));
  assert.deepEqual(models.rows.map(([name, , weights]) => [name!.text, weights!.text]), [
    ["broken", "not loaded"],
    ["mended", "on device"],
  ]);
  const empty = summarize(undefined, reading(0, ""));
  assert.deepEqual([empty.models.rows, empty.models.caption], [[], "None yet."]);
});

Deno.test("narrow() keeps the rows whose heading has every word, and counts them", () => {
  const heading = (text: string) => [{ text }];
  const table = {
    caption: "all",
    columns: [{ name: "Model" }],
    rows: ["resnet-50 int8", "ResNet-101", "bert"].map(heading),
  };
  const kept = (text: string) => narrow(table, text).rows.map(([cell]) => cell!.text);
  assert.deepEqual(kept("RESNET"), ["resnet-50 int8", "ResNet-101"]);
  assert.deepEqual(kept("int8 res"), ["resnet-50 int8"]);
  assert.equal(narrow(table, "resnet").caption, "2 of 3 rows.");
  assert.equal(narrow(table, ".*").caption, "0 of 3 rows.");
  assert.equal(narrow(table, "  "), table);
});

Deno.test("summarize() shows a gateway: workers that do not answer, and placement", () => {
  const text = (routed: number) => `
gateway_routing_table_size 2
gateway_worker_ready{worker="w0"} 1
gateway_worker_ready{worker="w10"} 0
gateway_worker_ready{worker="w9"} 1
gateway_placement_weight{model="a",worker="w0"} 0.25
gateway_placement_weight{model="a",worker="w9"} 0.75
gateway_placement_weight{model="b",worker="w0"} 0
gateway_replica_routed_total{model="a",worker="w0"} ${routed}
gateway_model_replicas{model="a"} 2
${WORKER(routed)}`;
  const { isGateway, workers, placement } = summarize(reading(0, text(0)), reading(1, text(30)));
  assert.equal(isGateway, true);
  assert.deepEqual(workers.rows.map(([name, state]) => [name!.text, state!.text]), [
    ["w0", "ready"],
    ["w9", "ready"],
    ["w10", "not ready"],
  ]);
  assert.deepEqual(placement!.rows.map((cells) => cells.map(({ text }) => text)), [
    ["a", "2", "–", "25 % · 30/s", "75 % · –/s"],
    ["b", "–", "–", "–", "–"],
  ]);
});

Deno.test("the page is served with a policy that lets nothing else in", async () => {
  await using endpoint = serveHttp({
    hostname: "127.0.0.1",
    port: 0,
    metrics: () => Promise.resolve("metric 1\n"),
    readiness: () => ({ isReady: true, progress: "5 of 5 models ready" }),
    logger: new Logger({ write: () => {} }),
  });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${endpoint.port}${path}`);
    return { body: await response.text(), headers: response.headers };
  };
  const page = await get("/");
  assert.equal(page.headers.get("content-type"), "text/html; charset=utf-8");
  const policy = page.headers.get("content-security-policy")!;
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self'/);
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  // All that it refers to is served, and it is nothing but these.
  const references = [...page.body.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, to]) => to);
  assert.deepEqual(references, [
    "data:,",
    "page.css",
    "page.js",
    "metrics",
    "readyz",
    "metrics",
  ]);
  assert.doesNotMatch(page.body, /style=|onclick=|<style|<script>/);
  for (
    const [path, type] of [["/page.css", "text/css"], ["/page.js", "text/javascript"]] as const
  ) {
    const { body, headers } = await get(path);
    assert.ok(headers.get("content-type")!.startsWith(type));
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.doesNotMatch(
      body,
      /https?:\/\/(?!www\.w3\.org\/2000\/svg)|innerHTML|insertAdjacentHTML/,
    );
  }
  const status = JSON.parse((await get("/status")).body);
  assert.equal(status.isReady, true);
  assert.equal(status.progress, "5 of 5 models ready");
  assert.match(status.version, /^\d/);
});
