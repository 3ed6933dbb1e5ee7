/** What a dashboard is made of, in few words; `render.ts` says the rest to Grafana. */

/** One query of a panel. */
export interface Query {
  readonly expression: string;
  /** `{{label}}` is replaced. */
  readonly legend?: string;
}

/** From this value on, that colour. */
export interface Step {
  readonly from: number;
  readonly color: "green" | "orange" | "red";
}

interface PanelCommon {
  readonly title: string;
  /** Of 24 columns. */
  readonly width: number;
  readonly height: number;
  /** Shown once for each value of this variable. */
  readonly repeat?: string;
}

/** A panel with data. */
export interface DataPanel extends PanelCommon {
  /** What the figures are, and what to make of them: Grafana shows it beside the title. */
  readonly note: string;
  readonly kind: "stat" | "series" | "stacked" | "heatmap" | "states" | "bars" | "label";
  /** Grafana's name of a unit. */
  readonly unit?: string;
  readonly steps?: readonly Step[];
  readonly min?: number;
  readonly max?: number;
  readonly queries: readonly Query[];
}

/** A table with a row for each value of a label and a column for each query, read at one moment. */
export interface TablePanel extends PanelCommon {
  readonly note: string;
  readonly kind: "table";
  readonly by: string;
  /** The column to sort by, largest first. */
  readonly sortBy: string;
  readonly columns: readonly (Query & { readonly title: string; readonly unit?: string })[];
}

/** Words. */
export interface TextPanel extends PanelCommon {
  readonly kind: "text";
  readonly markdown: string;
}

export type Panel = DataPanel | TablePanel | TextPanel;

/** A choice at the top. */
export interface Variable {
  readonly name: string;
  readonly label: string;
  /** Whose label of the same name has the values. */
  readonly series: string;
  /** One value only, instead of any number. */
  readonly isSingle?: boolean;
}

export interface Dashboard {
  /** Unique, and part of its address. */
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly refreshSeconds: number;
  readonly variables: readonly Variable[];
  readonly panels: readonly Panel[];
}

/** The choice of workers. */
export const WORKER_VARIABLE: Variable = { name: "worker", label: "Worker", series: "worker_info" };

/** Every query of a dashboard, with the panel it is in. */
export function* queriesOf(
  dashboard: Dashboard,
): Generator<Query & { readonly panel: string }> {
  for (const panel of dashboard.panels) {
    if (panel.kind === "text") continue;
    const queries = panel.kind === "table" ? panel.columns : panel.queries;
    for (const query of queries) yield { ...query, panel: panel.title };
  }
}

/** Panels side by side, row after row: where each lies in a grid of 24 columns. */
export function layOut(panels: readonly Panel[]): { x: number; y: number }[] {
  let [x, y, rowHeight] = [0, 0, 0];
  return panels.map(({ width, height }) => {
    if (x + width > 24) [x, y, rowHeight] = [0, y + rowHeight, 0];
    const place = { x, y };
    x += width;
    rowHeight = Math.max(rowHeight, height);
    return place;
  });
}
