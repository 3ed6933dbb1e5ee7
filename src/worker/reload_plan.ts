/**
 * What is to be done when the model folders have changed: pure decisions over two snapshots and what is
 * known of each model. A state counts only when two polls in a row saw it, so that a bundle that is
 * still being copied is left alone.
 */

import { dirname } from "node:path";
import type { RepositorySnapshot, Sighting } from "./reload_snapshot.ts";

/** The longest wait before a bundle that failed is tried again unchanged. */
export const MAX_RETRY_SECONDS = 300;

/** What became of a model name so far. */
export interface KnownModel {
  /** The bundle that is served, as it was when it was loaded. */
  readonly serving?: Sighting;
  /** The last attempt, where it failed. */
  readonly failure?: Failure;
}

export interface Failure {
  readonly sighting: Sighting;
  /** Attempts at this very state of the bundle. */
  readonly attempts: number;
  /** When it is tried again although nothing changed. */
  readonly retryAtMs: number;
  /** Whether it was refused only because of other models, as a meta that calls a meta is. */
  readonly isMetaRule: boolean;
}

/** A model and the bundle it is to be made of. */
export interface PlannedLoad {
  readonly name: string;
  readonly sighting: Sighting;
}

/** A folder that was renamed and not changed. */
export interface PlannedRename {
  readonly from: string;
  readonly to: string;
  /** Where it is now. */
  readonly sighting: Sighting;
}

export interface ReloadPlan {
  /** All at once: they may change places. */
  readonly renames: readonly PlannedRename[];
  /** New or changed, or to be tried again. */
  readonly loads: readonly PlannedLoad[];
  readonly unloads: readonly string[];
  /** What is served is what is there: a failed update was taken back, or only the folder was replaced. */
  readonly confirmed: readonly PlannedLoad[];
}

export interface ReloadInput {
  readonly known: ReadonlyMap<string, KnownModel>;
  /** Names that are being worked on; nothing is planned for them. */
  readonly busy: ReadonlySet<string>;
  readonly previous: RepositorySnapshot;
  readonly current: RepositorySnapshot;
  readonly nowMs: number;
}

/** Seconds until a bundle is tried again that failed `attempts` times in the same state. */
export function retrySeconds(attempts: number, pollSeconds: number): number {
  return Math.min(MAX_RETRY_SECONDS, pollSeconds * 2 ** Math.min(attempts, 30));
}

export function planReload(input: ReloadInput): ReloadPlan {
  const { known, busy, current, nowMs } = input;
  const { renames, waiting } = findRenames(input);
  const movedFrom = new Set(renames.map(({ from }) => from));
  const movedTo = new Set(renames.map(({ to }) => to));
  const loads: PlannedLoad[] = [];
  const confirmed: PlannedLoad[] = [];
  for (const [name, sighting] of current.models) {
    if (busy.has(name) || waiting.has(name) || movedTo.has(name)) continue;
    if (!isSettled(input, name)) continue;
    const { serving, failure } = known.get(name) ?? {};
    if (serving && isSameBundle(serving, sighting)) {
      if (failure || serving.identity !== sighting.identity) confirmed.push({ name, sighting });
    } else if (
      !failure || !isSameBundle(failure.sighting, sighting) || nowMs >= failure.retryAtMs
    ) {
      loads.push({ name, sighting });
    }
  }
  const unloads = [...known.keys()].filter((name) =>
    !busy.has(name) && !waiting.has(name) && !movedFrom.has(name) && !movedTo.has(name) &&
    isGone(input, name)
  );
  return { renames, loads, unloads, confirmed };
}

/**
 * Bundles that are now under another name, as they were loaded, and no longer under the old one.
 * `waiting`: old names of those whose new name cannot be given yet.
 */
function findRenames(input: ReloadInput): { renames: PlannedRename[]; waiting: Set<string> } {
  const { known, busy, current } = input;
  const leaving = new Map<string, string>();
  for (const [name, { serving }] of known) {
    if (!serving || serving.identity === "" || busy.has(name)) continue;
    const there = current.models.get(name);
    const isLeaving = there === undefined
      ? isGone(input, name)
      : isSettled(input, name) && there.identity !== serving.identity;
    if (isLeaving) leaving.set(keyOf(serving), name);
  }
  const candidates: PlannedRename[] = [];
  const waiting = new Set<string>();
  for (const [to, sighting] of leaving.size > 0 ? current.models : []) {
    const from = leaving.get(keyOf(sighting));
    if (from === undefined || from === to) continue;
    leaving.delete(keyOf(sighting));
    if (busy.has(to) || !isSettled(input, to)) waiting.add(from);
    else candidates.push({ from, to, sighting });
  }
  return { renames: withoutGaps(candidates, current), waiting };
}

/**
 * Drops renames after which the old name would stand for nothing although a bundle is there that has yet
 * to be loaded. Such a name goes on serving what it serves, and the new name is loaded beside it, with
 * the same programs.
 */
function withoutGaps(
  renames: readonly PlannedRename[],
  current: RepositorySnapshot,
): PlannedRename[] {
  const targets = new Set(renames.map(({ to }) => to));
  const kept = renames.filter(({ from }) => !current.models.has(from) || targets.has(from));
  return kept.length === renames.length ? kept : withoutGaps(kept, current);
}

/** Whether both polls saw the name in the same state. */
function isSettled({ previous, current }: ReloadInput, name: string): boolean {
  const [before, now] = [previous.models.get(name), current.models.get(name)];
  if (before === undefined || now === undefined) return before === now;
  return isSameBundle(before, now) && before.identity === now.identity;
}

/** Whether both polls found the model missing where they could look. */
function isGone({ known, previous, current }: ReloadInput, name: string): boolean {
  if (previous.models.has(name) || current.models.has(name)) return false;
  const { serving, failure } = known.get(name) ?? {};
  const places = [serving, failure?.sighting].flatMap((sighting) =>
    sighting && sighting.directory !== "" ? [dirname(sighting.directory)] : []
  );
  // A name that had several places had none of its own: only a look into all folders tells.
  const isHidden = ({ unreadable }: RepositorySnapshot) =>
    places.length === 0 ? unreadable.size > 0 : places.some((place) => unreadable.has(place));
  return !isHidden(previous) && !isHidden(current);
}

function isSameBundle(a: Sighting, b: Sighting): boolean {
  return a.contents === b.contents && a.directory === b.directory;
}

function keyOf({ identity, contents }: Sighting): string {
  return `${identity} ${contents}`;
}
