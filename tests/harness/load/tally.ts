/** What became of the load's calls. */

/** How a request is sent, or what is wrong with it. */
export const MODES = ["right", "cancelled", "late", "failing", "bad", "cut off"] as const;
export type Mode = (typeof MODES)[number];

/** Messages kept of each kind of trouble; the rest are only counted. */
const KEPT = 10;

export class Tally {
  sent = 0;
  /** Calls by mode and status. */
  readonly statuses = new Map<Mode, Map<string, number>>();
  /** Milliseconds of right requests by model. */
  readonly latencies = new Map<string, number[]>();
  /** Answers that were not the expected ones, and statuses that no such request may end with. */
  wrong = 0;
  readonly complaints: string[] = [];
  /** Calls that have not ended. */
  #open = 0;

  get open(): number {
    return this.#open;
  }

  started(): void {
    this.sent++;
    this.#open++;
  }

  /** A call ended. `complaint`: what is wrong with how it did. */
  ended(mode: Mode, status: string, complaint: string | undefined): void {
    this.#open--;
    const counts = this.statuses.get(mode) ?? new Map<string, number>();
    this.statuses.set(mode, counts.set(status, (counts.get(status) ?? 0) + 1));
    if (complaint === undefined) return;
    this.wrong++;
    if (this.complaints.length < KEPT) this.complaints.push(`${mode}: ${status}: ${complaint}`);
  }

  took(model: string, milliseconds: number): void {
    const list = this.latencies.get(model) ?? [];
    this.latencies.set(model, list);
    list.push(milliseconds);
  }
}
