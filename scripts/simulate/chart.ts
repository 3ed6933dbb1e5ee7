/** The picture: horizontal bars, one panel per figure. */

/** One panel. */
export interface Panel {
  readonly title: string;
  /** What the mark on a bar stands for, if there is one. */
  readonly markTitle?: string;
  readonly bars: readonly {
    readonly label: string;
    readonly value: number;
    readonly text: string;
    /** Drawn across the bar. */
    readonly mark?: number;
  }[];
}

const LABEL_WIDTH = 234;
const BAR_WIDTH = 420;
const VALUE_WIDTH = 90;
const ROW_HEIGHT = 24;
const HEAD_HEIGHT = 46;
const MARGIN = 16;
const COLOURS = ["#3b6fb6", "#b6643b", "#4f8f5b"];

/** An SVG of the panels, one below the other. */
export function chart(title: string, panels: readonly Panel[]): string {
  const width = MARGIN * 2 + LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH;
  const parts: string[] = [];
  let top = MARGIN + 24;
  panels.forEach((panel, index) => {
    parts.push(drawPanel(panel, top, COLOURS[index % COLOURS.length]!));
    top += HEAD_HEIGHT + panel.bars.length * ROW_HEIGHT;
  });
  const height = top + MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(title)}">
<style>text { font: 13px system-ui, sans-serif; fill: #1b1f24 } .head { font-weight: 600 }
.note { fill: #57606a }</style>
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text class="head" x="${MARGIN}" y="${MARGIN + 10}">${escape(title)}</text>
${parts.join("\n")}
</svg>
`;
}

function drawPanel({ title, markTitle, bars }: Panel, top: number, colour: string): string {
  const largest = Math.max(...bars.map(({ value }) => value), 0);
  const scale = largest > 0 ? BAR_WIDTH / largest : 0;
  const left = MARGIN + LABEL_WIDTH;
  const rows = bars.map(({ label, value, text, mark }, index) => {
    const y = top + HEAD_HEIGHT - 14 + index * ROW_HEIGHT;
    const barWidth = Math.max(1, value * scale);
    const markX = left + (mark ?? 0) * scale;
    return [
      `<text x="${left - 8}" y="${y + 13}" text-anchor="end">${escape(label)}</text>`,
      `<rect x="${left}" y="${y}" width="${
        barWidth.toFixed(1)
      }" height="17" rx="2" fill="${colour}"/>`,
      ...(mark === undefined ? [] : [
        `<line x1="${markX.toFixed(1)}" x2="${markX.toFixed(1)}" y1="${y - 2}" y2="${y + 19}" ` +
        'stroke="#1b1f24" stroke-width="2"/>',
      ]),
      `<text x="${(left + barWidth + 6).toFixed(1)}" y="${y + 13}">${escape(text)}</text>`,
    ].join("\n");
  });
  const note = markTitle === undefined
    ? ""
    : `<tspan class="note"> (line: ${escape(markTitle)})</tspan>`;
  return `<text class="head" x="${MARGIN}" y="${top + 16}">${escape(title)}${note}</text>
${rows.join("\n")}`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
