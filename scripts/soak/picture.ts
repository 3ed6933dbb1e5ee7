/** A soak's readings as one SVG: a few lines over time, one strip below the other. */

import type { Reading } from "./monitor.ts";

/** One line of a strip. */
interface Line {
  readonly label: string;
  readonly color: string;
  readonly value: (reading: Reading) => number;
}

interface Strip {
  readonly title: string;
  readonly lines: readonly Line[];
}

const [BLUE, ORANGE, GREEN] = ["#2563eb", "#ea580c", "#16a34a"];

const STRIPS: readonly Strip[] = [
  {
    title: "Memory, MiB",
    lines: [
      { label: "resident, all processes", color: BLUE, value: (r) => r.worker_mem },
      {
        label: "native memory",
        color: GREEN,
        value: (r) => r.worker_mem - r.heap_pages_mib - r.shared_mib - r.pool_mib,
      },
      { label: "JavaScript heaps in use", color: ORANGE, value: (r) => r.heap_mib },
    ],
  },
  {
    title: "Busy, %",
    lines: [
      { label: "processors (100 = one)", color: BLUE, value: (r) => r.worker_cpu_pct },
      { label: "devices, mean", color: ORANGE, value: (r) => r.gpu_util_pct },
    ],
  },
  {
    title: "Descriptors and handles",
    lines: [
      { label: "open descriptors", color: BLUE, value: (r) => r.open_fds },
      { label: "PJRT handles", color: ORANGE, value: (r) => r.native_handles },
      { label: "shared-memory objects", color: GREEN, value: (r) => r.shm_regions },
    ],
  },
  {
    title: "Weights, since the start",
    lines: [
      { label: "loads", color: BLUE, value: (r) => r.weight_loads },
      { label: "evictions", color: ORANGE, value: (r) => r.weight_evicts },
    ],
  },
  {
    title: "Requests, since the start",
    lines: [
      { label: "answered", color: BLUE, value: (r) => r.requests },
      { label: "shed", color: ORANGE, value: (r) => r.shed },
    ],
  },
];

const WIDTH = 960;
const HEIGHT = 150;
const LEFT = 70;
const RIGHT = 20;
const TOP = 40;
const GAP = 44;

/** Draws readings, two at least. `warmUpSeconds` from the first reading is shaded: it is not judged. */
export function drawSoak(
  title: string,
  readings: readonly Reading[],
  warmUpSeconds: number,
): string {
  const start = secondsOf(readings[0]!);
  const span = Math.max(1, secondsOf(readings.at(-1)!) - start);
  const x = (seconds: number) => LEFT + (seconds - start) / span * (WIDTH - LEFT - RIGHT);
  const height = TOP + STRIPS.length * (HEIGHT + GAP) + 10;
  const strips = STRIPS.map((strip, index) =>
    drawStrip(strip, readings, {
      x,
      top: TOP + index * (HEIGHT + GAP) + 20,
      warmUpEnd: x(start + Math.min(span, warmUpSeconds)),
    })
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" ` +
    `font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    `<text x="${LEFT}" y="22" font-size="16">${escaped(title)}, ${Math.round(span)} s</text>`,
    ...strips,
    "</svg>",
    "",
  ].join("\n");
}

function drawStrip(
  { title, lines }: Strip,
  readings: readonly Reading[],
  { x, top, warmUpEnd }: {
    readonly x: (seconds: number) => number;
    readonly top: number;
    readonly warmUpEnd: number;
  },
): string {
  const highest = Math.max(1, ...lines.flatMap(({ value }) => readings.map(value)));
  const y = (value: number) => top + HEIGHT - value / highest * (HEIGHT - 10);
  const parts = [
    `<rect x="${LEFT}" y="${top}" width="${WIDTH - LEFT - RIGHT}" height="${HEIGHT}" ` +
    `fill="none" stroke="#d4d4d4"/>`,
    `<rect x="${LEFT}" y="${top}" width="${(warmUpEnd - LEFT).toFixed(1)}" height="${HEIGHT}" ` +
    `fill="#f5f5f5"/>`,
    `<text x="${LEFT}" y="${top - 6}">${escaped(title)}</text>`,
    `<text x="${LEFT - 6}" y="${top + 14}" text-anchor="end">${short(highest)}</text>`,
    `<text x="${LEFT - 6}" y="${top + HEIGHT}" text-anchor="end">0</text>`,
  ];
  lines.forEach(({ label, color, value }, index) => {
    const points = readings.map((reading) =>
      `${x(secondsOf(reading)).toFixed(1)},${y(value(reading)).toFixed(1)}`
    );
    parts.push(
      `<polyline points="${points.join(" ")}" fill="none" stroke="${color}" stroke-width="1.5"/>`,
      `<text x="${LEFT + 200 + index * 230}" y="${top - 6}" fill="${color}">${escaped(label)}: ${
        short(value(readings.at(-1)!))
      }</text>`,
    );
  });
  return parts.join("\n");
}

/** `epoch` has whole seconds only. */
function secondsOf({ iso_time }: Reading): number {
  return Date.parse(iso_time) / 1000;
}

function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
