/**
 * The page of a node: reads `metrics` and `status` again and again and shows what they say. Everything
 * that computes is a pure function, exported for its tests; what comes from the server reaches the page as
 * text only.
 */

const POLL_MS = 2000;
const HISTORY = 90;

/**
 * A sample of the Prometheus text format.
 * @typedef {{ labels: Record<string, string>, value: number }} Sample
 */

/**
 * An exposition: samples by series name.
 * @typedef {Map<string, Sample[]>} Exposition
 */

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?\s*/g;
/** @type {Record<string, string>} */
const ESCAPES = { n: "\n", '"': '"', "\\": "\\" };
/** @type {Record<string, number>} */
const SPECIAL = { "+Inf": Infinity, "-Inf": -Infinity, NaN: NaN };

/**
 * Parses the Prometheus text format (version 0.0.4); lines that are not understood are left out.
 * @param {string} text
 * @returns {Exposition}
 */
export function parseExposition(text) {
  const series = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    const match = LINE.exec(line);
    if (match === null) continue;
    const [, name, written, number] = match;
    const value = number in SPECIAL ? SPECIAL[number] : Number(number);
    if (Number.isNaN(value) && number !== "NaN") continue;
    const labels = Object.create(null);
    for (const [, key, escaped] of (written ?? "").matchAll(LABEL)) {
      labels[key] = escaped.replace(/\\(.)/g, (whole, letter) => ESCAPES[letter] ?? whole);
    }
    const samples = series.get(name);
    if (samples === undefined) series.set(name, [{ labels, value }]);
    else samples.push({ labels, value });
  }
  return series;
}

/**
 * The samples of a series whose labels are as wanted.
 * @param {Exposition | undefined} exposition
 * @param {string} name
 * @param {Record<string, string>} [wanted]
 */
export function select(exposition, name, wanted = {}) {
  const entries = Object.entries(wanted);
  return (exposition?.get(name) ?? []).filter(({ labels }) =>
    entries.every(([key, value]) => labels[key] === value)
  );
}

/**
 * Their sum; `undefined` when there are none.
 * @param {Exposition | undefined} exposition
 * @param {string} name
 * @param {Record<string, string>} [wanted]
 */
export function total(exposition, name, wanted) {
  const samples = select(exposition, name, wanted);
  return samples.length === 0 ? undefined : samples.reduce((sum, { value }) => sum + value, 0);
}

/**
 * By how much a counter grew, sample by sample. One that is smaller than before began anew.
 * @param {Exposition | undefined} before
 * @param {Exposition} now
 * @param {string} name
 * @param {Record<string, string>} [wanted]
 * @returns {Sample[]}
 */
export function increases(before, now, name, wanted) {
  const identity = (/** @type {Sample} */ { labels }) =>
    JSON.stringify(Object.entries(labels).sort(([a], [b]) => a < b ? -1 : 1));
  const old = new Map(
    select(before, name, wanted).map((sample) => [identity(sample), sample.value]),
  );
  return select(now, name, wanted).map((sample) => {
    const start = old.get(identity(sample)) ?? 0;
    return {
      labels: sample.labels,
      value: sample.value >= start ? sample.value - start : sample.value,
    };
  });
}

/**
 * Increase per second of all matching counters together; `undefined` without an earlier reading.
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @param {string} name
 * @param {Record<string, string>} [wanted]
 */
export function rate(before, now, name, wanted) {
  if (before === undefined || now.atMs <= before.atMs) return undefined;
  const grown = increases(before.series, now.series, name, wanted);
  if (grown.length === 0) return undefined;
  return grown.reduce((sum, { value }) => sum + value, 0) / ((now.atMs - before.atMs) / 1000);
}

/**
 * A quantile of what a histogram saw between two readings, by linear interpolation inside the bucket it
 * falls into, as Prometheus' histogram_quantile does: the lowest bucket begins at 0, and what lies above
 * the highest bound is that bound. Several histograms count as one. `undefined` when nothing was seen.
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @param {string} name without `_bucket`
 * @param {number} quantile
 * @param {Record<string, string>} [wanted]
 */
export function quantileOf(before, now, name, quantile, wanted) {
  if (before === undefined) return undefined;
  const counts = new Map();
  for (const { labels, value } of increases(before.series, now.series, `${name}_bucket`, wanted)) {
    const bound = labels.le in SPECIAL ? SPECIAL[labels.le] : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  const buckets = [...counts].sort(([a], [b]) => a - b);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (all === 0) return undefined;
  const rank = quantile * all;
  const at = buckets.findIndex(([, count]) => count >= rank);
  const [bound, count] = buckets[at];
  const [lower, below] = at === 0 ? [0, 0] : buckets[at - 1];
  if (bound === Infinity) return lower;
  return count === below ? bound : lower + (bound - lower) * (rank - below) / (count - below);
}

/**
 * Every value that a label takes in the given series, in order.
 * @param {Exposition} exposition
 * @param {string[]} names
 * @param {string} label
 */
export function labelValues(exposition, names, label) {
  const found = new Set();
  for (const name of names) {
    for (const { labels } of exposition.get(name) ?? []) {
      if (labels[label] !== undefined && labels[label] !== "") found.add(labels[label]);
    }
  }
  return [...found].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

const MISSING = "–";

/**
 * A number in few characters.
 * @param {number | undefined} value
 * @param {number} [digits] after the point, for small numbers
 */
export function formatNumber(value, digits = 1) {
  if (value === undefined || Number.isNaN(value)) return MISSING;
  if (Math.abs(value) >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (Math.abs(value) >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return Number.isInteger(value) || Math.abs(value) >= 100
    ? String(Math.round(value))
    : value.toFixed(digits);
}

/**
 * Bytes in binary units.
 * @param {number | undefined} bytes
 */
export function formatBytes(bytes) {
  if (bytes === undefined) return MISSING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/**
 * Seconds as µs, ms or s.
 * @param {number | undefined} seconds
 */
export function formatSeconds(seconds) {
  if (seconds === undefined) return MISSING;
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}

/**
 * A share as a percentage.
 * @param {number | undefined} share
 */
export function formatShare(share) {
  return share === undefined ? MISSING : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/**
 * One look at the server. `atMs` is on a clock that never goes back.
 * @typedef {{ atMs: number, series: Exposition }} Reading
 */

/**
 * A cell of a table: its text, and perhaps how it is meant.
 * @typedef {{ text: string, tone?: "good" | "bad" | "faint", words?: boolean }} Cell
 */

/**
 * A table: its rows begin with their heading.
 * @typedef {{ caption: string, columns: { name: string, words?: boolean }[], rows: Cell[][] }} Table
 */

const words = (/** @type {string} */ text, /** @type {Cell["tone"]} */ tone) => ({
  text,
  tone,
  words: true,
});
const number = (/** @type {string} */ text) => ({ text });

/**
 * What is to be shown, from the last two readings.
 * @param {Reading | undefined} before
 * @param {Reading} now
 */
export function summarize(before, now) {
  const isGateway = now.series.has("gateway_routing_table_size");
  const prefix = isGateway ? "gateway" : "worker";
  const calls = isGateway ? { rpc: "ModelInfer" } : {};
  const requests = `${prefix}_requests_total`;
  const latency = `${prefix}_request_latency_seconds`;
  const all = rate(before, now, requests, calls);
  const good = rate(before, now, requests, { ...calls, status: "OK" });
  const failed = all === undefined ? undefined : all - (good ?? 0);
  return {
    isGateway,
    figures: [
      { name: "Requests/s", text: formatNumber(all), value: all },
      { name: "Failed/s", text: formatNumber(failed), value: failed },
      ...[0.5, 0.99].map((quantile) => {
        const value = quantileOf(before, now, latency, quantile, calls);
        return { name: `Latency p${quantile * 100}`, text: formatSeconds(value), value };
      }),
      { name: "In progress", ...counted(total(now.series, `${prefix}_inflight_requests`)) },
      { name: "Waiting", ...counted(total(now.series, "worker_queue_depth")) },
      {
        name: isGateway ? "Models routed" : "Models loaded",
        ...counted(
          isGateway
            ? total(now.series, "gateway_routing_table_size")
            : total(now.series, "worker_models_loaded"),
        ),
      },
      { name: "Refused for load", ...counted(total(now.series, `${prefix}_requests_shed_total`)) },
    ],
    workers: workerTable(before, now),
    models: modelTable(before, now),
    placement: placementTable(before, now),
  };
}

/** @param {number | undefined} value */
function counted(value) {
  return { text: formatNumber(value, 0), value };
}

/**
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @returns {Table}
 */
function workerTable(before, now) {
  const names = labelValues(now.series, ["worker_info", "gateway_worker_ready"], "worker");
  const [hasReady, hasDevice] = ["gateway_worker_ready", "worker_device_memory_in_use_bytes"].map(
    (name) => now.series.has(name),
  );
  return {
    caption: names.length === 0 ? "None yet." : "Each worker is one process with one device.",
    columns: [
      { name: "Worker", words: true },
      ...(hasReady ? [{ name: "State", words: true }] : []),
      { name: "Models" },
      { name: "On device" },
      { name: "Weights" },
      ...(hasDevice ? [{ name: "Device memory" }] : []),
      { name: "In progress" },
      { name: "Waiting" },
      { name: "Requests/s" },
      { name: "Busy" },
      { name: "CPU" },
      { name: "Memory" },
      { name: "Scheduling", words: true },
    ],
    rows: names.map((worker) => {
      const own = { worker };
      const [info] = select(now.series, "worker_info", own);
      const isReady = total(now.series, "gateway_worker_ready", own) === 1;
      return [
        words(worker),
        ...(hasReady ? [isReady ? words("ready", "good") : words("not ready", "bad")] : []),
        number(formatNumber(total(now.series, "worker_models_loaded", own), 0)),
        number(formatNumber(total(now.series, "worker_models_resident", own), 0)),
        number(formatBytes(total(now.series, "worker_resident_weight_bytes", own))),
        ...(hasDevice
          ? [number(formatBytes(total(now.series, "worker_device_memory_in_use_bytes", own)))]
          : []),
        number(formatNumber(total(now.series, "worker_inflight_requests", own), 0)),
        number(formatNumber(total(now.series, "worker_queue_depth", own), 0)),
        number(formatNumber(rate(before, now, "worker_requests_total", own))),
        number(formatShare(rate(before, now, "worker_compute_seconds_total", own))),
        number(formatShare(rate(before, now, "process_cpu_seconds_total", own))),
        number(formatBytes(total(now.series, "process_resident_memory_bytes", own))),
        words(info === undefined ? MISSING : info.labels.discipline ?? MISSING, "faint"),
      ];
    }),
  };
}

/**
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @returns {Table}
 */
function modelTable(before, now) {
  const names = [
    "worker_model_resident",
    "worker_requests_total",
    "worker_bundle_load_failures_total",
  ];
  const rows = labelValues(now.series, names, "model").flatMap((model) => {
    const own = new Map(names.map((name) => [name, select(now.series, name, { model })]));
    return labelValues(own, names, "worker").map((worker) => modelRow(before, now, worker, model));
  });
  return {
    caption: rows.length === 0
      ? "None yet."
      : "A model that several workers serve has a row for each.",
    columns: [
      { name: "Model", words: true },
      { name: "Worker", words: true },
      { name: "Weights", words: true },
      { name: "Size" },
      { name: "Waiting" },
      { name: "Requests/s" },
      { name: "Failed/s" },
      { name: "Rows per run" },
      { name: "p50" },
      { name: "p99" },
      { name: "Busy" },
    ],
    rows,
  };
}

/**
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @param {string} worker
 * @param {string} model
 * @returns {Cell[]}
 */
function modelRow(before, now, worker, model) {
  const own = { worker, model };
  const all = rate(before, now, "worker_requests_total", own);
  const good = rate(before, now, "worker_requests_total", { ...own, status: "OK" });
  const runs = rate(before, now, "worker_dispatch_total", own);
  const rows = rate(before, now, "worker_rows_served_total", own);
  const quantile = (/** @type {number} */ q) =>
    number(formatSeconds(quantileOf(before, now, "worker_request_latency_seconds", q, own)));
  const isStale = total(now.series, "worker_model_update_failed", own) === 1;
  return [
    words(model),
    words(worker, "faint"),
    isStale ? words("older version", "bad") : residency(now.series, own),
    number(formatBytes(total(now.series, "worker_model_weight_bytes", own))),
    number(formatNumber(total(now.series, "worker_queue_depth", own), 0)),
    number(formatNumber(all)),
    number(formatNumber(all === undefined ? undefined : all - (good ?? 0))),
    number(formatNumber(runs && rows !== undefined ? rows / runs : undefined)),
    quantile(0.5),
    quantile(0.99),
    number(formatShare(rate(before, now, "worker_compute_seconds_total", own))),
  ];
}

/**
 * @param {Exposition} series
 * @param {Record<string, string>} own
 */
function residency(series, own) {
  if (total(series, "worker_model_pinned", own) === 1) return words("pinned", "good");
  switch (total(series, "worker_model_resident", own)) {
    case undefined:
      return total(series, "worker_bundle_load_failures_total", own)
        ? words("not loaded", "bad")
        : words(MISSING, "faint");
    case 0:
      return words("not on device", "faint");
    default:
      return words("on device", "good");
  }
}

/**
 * Which worker gets a model's requests; `undefined` where no gateway places models.
 * @param {Reading | undefined} before
 * @param {Reading} now
 * @returns {Table | undefined}
 */
function placementTable(before, now) {
  const series = ["gateway_placement_weight"];
  const models = labelValues(now.series, series, "model");
  if (models.length === 0) return undefined;
  const workers = labelValues(now.series, series, "worker");
  return {
    caption:
      "Share of a model's traffic meant for each worker, and requests sent there per second.",
    columns: [
      { name: "Model", words: true },
      { name: "Replicas" },
      { name: "Devices used" },
      ...workers.map((name) => ({ name })),
    ],
    rows: models.map((model) => [
      words(model),
      number(formatNumber(total(now.series, "gateway_model_replicas", { model }), 0)),
      number(formatNumber(total(now.series, "gateway_model_utilization", { model }), 2)),
      ...workers.map((worker) => {
        const weight = total(now.series, "gateway_placement_weight", { model, worker });
        if (!weight) return { text: MISSING, tone: /** @type {const} */ ("faint") };
        const sent = rate(before, now, "gateway_replica_routed_total", { model, worker });
        return number(`${formatShare(weight)} · ${formatNumber(sent)}/s`);
      }),
    ]),
  };
}

/**
 * A table with those rows only whose heading contains the words; all of them when there are none.
 * @param {Table} table
 * @param {string} text
 * @returns {Table}
 */
export function narrow(table, text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length === 0) return table;
  const rows = table.rows.filter(([heading]) =>
    wanted.every((word) => heading.text.toLowerCase().includes(word))
  );
  return { ...table, rows, caption: `${rows.length} of ${table.rows.length} rows.` };
}

// What touches the document.

/**
 * @param {string} tag
 * @param {{ text?: string, className?: string, attributes?: Record<string, string> }} [options]
 * @param {Node[]} [children]
 */
function element(tag, { text, className, attributes = {} } = {}, children = []) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Makes an element like another, and changes only what differs: what the reader has selected, focused or
 * scrolled to stays. Children with `data-key` keep their element wherever they are in the list.
 * @param {Element} shown
 * @param {Element} wanted its children may move over
 */
function become(shown, wanted) {
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    if (!wanted.hasAttribute(name)) shown.removeAttribute(name);
  }
  const keys = new Set([...wanted.children].map(keyOf));
  for (const child of [...shown.children]) if (!keys.has(keyOf(child))) child.remove();
  let at = shown.firstChild;
  for (const child of [...wanted.childNodes]) {
    if (at === null || at.nodeName !== child.nodeName || keyOf(at) !== keyOf(child)) {
      shown.insertBefore(child, at);
      continue;
    }
    if (at instanceof Element && child instanceof Element) become(at, child);
    else if (at.nodeValue !== child.nodeValue) at.nodeValue = child.nodeValue;
    at = at.nextSibling;
  }
  while (at !== null) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** @param {Node} node */
function keyOf(node) {
  return node instanceof HTMLElement ? node.dataset.key : undefined;
}

/**
 * Replaces an element's only child, or gives it its first one.
 * @param {Element} parent
 * @param {Element} wanted
 */
function show(parent, wanted) {
  if (parent.firstElementChild === null) parent.append(wanted);
  else become(parent.firstElementChild, wanted);
}

/**
 * Runs a change of the page. An end of the selection that is inside a text which changes would fall to its
 * beginning; it stays where it was, and at the end of the text where it was there.
 * @param {() => void} change
 */
function keepingSelection(change) {
  const selection = getSelection();
  if (selection === null || selection.isCollapsed) return change();
  const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
  if (anchorNode === null || focusNode === null) return change();
  const [anchorEnd, focusEnd] = [lengthOf(anchorNode), lengthOf(focusNode)];
  change();
  const isKept = selection.anchorNode === anchorNode && selection.anchorOffset === anchorOffset &&
    selection.focusNode === focusNode && selection.focusOffset === focusOffset;
  if (isKept || !anchorNode.isConnected || !focusNode.isConnected) return;
  const place = (
    /** @type {Node} */ node,
    /** @type {number} */ offset,
    /** @type {number} */ end,
  ) => offset === end ? lengthOf(node) : Math.min(offset, lengthOf(node));
  selection.setBaseAndExtent(
    anchorNode,
    place(anchorNode, anchorOffset, anchorEnd),
    focusNode,
    place(focusNode, focusOffset, focusEnd),
  );
}

/** @param {Node} node */
function lengthOf(node) {
  return node instanceof CharacterData ? node.length : node.childNodes.length;
}

/** @param {Table} table */
function tableElement({ caption, columns, rows }) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  // Some headings come several times, once for each worker.
  const rowKey = (/** @type {string} */ heading) => {
    const count = seen.get(heading) ?? 0;
    seen.set(heading, count + 1);
    return `${count} ${heading}`;
  };
  const classOf = (/** @type {{ words?: boolean, tone?: string }} */ { words, tone }) =>
    [words ? "words" : "", tone ?? ""].join(" ").trim();
  const head = columns.map((column) =>
    element("th", { text: column.name, className: classOf(column), attributes: { scope: "col" } })
  );
  const body = rows.map((cells) =>
    element(
      "tr",
      { attributes: { "data-key": rowKey(cells[0].text) } },
      cells.map((cell, index) =>
        index === 0
          ? element("th", {
            text: cell.text,
            className: classOf(cell),
            attributes: { scope: "row", title: cell.text },
          })
          : element("td", { text: cell.text, className: classOf(cell) })
      ),
    )
  );
  return element("table", {}, [
    element("caption", { text: caption }),
    element("thead", {}, [element("tr", {}, head)]),
    element("tbody", {}, body),
  ]);
}

/**
 * A line of the last values; says nothing that the text beside it does not.
 * @param {(number | undefined)[]} values
 */
function sparkline(values) {
  const space = "http://www.w3.org/2000/svg";
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const points = values.flatMap((value, index) =>
    value === undefined ? [] : [`${index},${(20 - 18 * value / most).toFixed(2)}`]
  );
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 21`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

class Page {
  /** @type {Reading | undefined} */
  #last;
  /** @type {Map<string, (number | undefined)[]>} */
  #history = new Map();
  #isPaused = false;
  /** @type {ReturnType<typeof summarize> | undefined} */
  #shown;

  start() {
    // Without this script the page says where the figures are, and nothing else.
    for (const id of ["main", "pause"]) byId(id).hidden = false;
    byId("state").textContent = "Reading…";
    const button = byId("pause");
    button.addEventListener("click", () => {
      this.#isPaused = !this.#isPaused;
      button.setAttribute("aria-pressed", String(this.#isPaused));
    });
    byId("filter").addEventListener("input", () => keepingSelection(() => this.#fillTables()));
    void this.#run();
  }

  async #run() {
    for (;;) {
      if (!this.#isPaused && !document.hidden) await this.#look();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #look() {
    const state = byId("state");
    try {
      const [metrics, status] = await Promise.all(
        ["metrics", "status"].map((path) =>
          fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10 * POLL_MS) })
        ),
      );
      if (!metrics.ok || !status.ok) throw new Error(`status ${metrics.status}, ${status.status}`);
      const now = { atMs: performance.now(), series: parseExposition(await metrics.text()) };
      const { isReady, progress, version, commit } = await status.json();
      keepingSelection(() => this.#show(summarize(this.#last, now), now));
      say("version", `${version} (${commit})`);
      say("state", isReady ? progress : `not ready: ${progress}`);
      state.className = isReady ? "good" : "bad";
    } catch (error) {
      say("state", `no answer (${error instanceof Error ? error.message : "?"})`);
      state.className = "bad";
    }
  }

  /**
   * @param {ReturnType<typeof summarize>} summary
   * @param {Reading} now
   */
  #show(summary, now) {
    say("role", summary.isGateway ? "gateway" : "worker");
    document.title = `${location.host} – reactantserver`;
    if (this.#last) {
      say("interval", formatSeconds((now.atMs - this.#last.atMs) / 1000));
    }
    this.#last = now;
    const figures = summary.figures.map(({ name, text, value }) => {
      const history = [...(this.#history.get(name) ?? []), value].slice(-HISTORY);
      this.#history.set(name, history);
      return element("div", {}, [
        element("dt", { text: name }),
        element("dd", { text }, [
          sparkline([...new Array(HISTORY - history.length).fill(undefined), ...history]),
        ]),
      ]);
    });
    become(byId("figures"), element("dl", { attributes: { id: "figures" } }, figures));
    this.#shown = summary;
    this.#fillTables();
  }

  /** The tables as last read, those of models with the rows that were asked for. */
  #fillTables() {
    if (this.#shown === undefined) return;
    const { workers, models, placement } = this.#shown;
    const wanted = /** @type {HTMLInputElement} */ (byId("filter")).value;
    const tables = {
      workers,
      models: narrow(models, wanted),
      placement: placement && narrow(placement, wanted),
    };
    for (const [id, table] of Object.entries(tables)) {
      const section = byId(id);
      section.hidden = table === undefined;
      const frame = section.querySelector(".scroll");
      if (table !== undefined && frame !== null) show(frame, tableElement(table));
    }
  }
}

/**
 * Only when it changed: a screen reader speaks some of it, and what is selected stays.
 * @param {string} id
 * @param {string} text
 */
function say(id, text) {
  const found = byId(id);
  if (found.textContent !== text) found.textContent = text;
}

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

if (typeof document !== "undefined") new Page().start();
