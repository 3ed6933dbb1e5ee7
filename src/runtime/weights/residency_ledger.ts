/**
 * Which weights are on the device, which come next and which have to leave: the bookkeeping alone, over
 * plain data. Whoever keeps it does what it says. Least recently used leaves first, though before what
 * work waits for; what is pinned, in use, or was brought in for work that has not begun never does.
 */

/** States: absent → loading → resident → absent. */
interface Entry {
  readonly bytes: number;
  state: "absent" | "loading" | "resident";
  /** Dispatches that use it now. */
  uses: number;
  /** Outside the budget, and never evicted. */
  isPinned: boolean;
  /** Brought in and not used since. */
  isFresh: boolean;
}

/** What is to be done to bring an entry in. */
export type Admission<K> =
  /** Its bytes are reserved: free the victims, then load it. */
  | { readonly kind: "load"; readonly victims: readonly K[] }
  /** What would have to leave cannot, for now. */
  | { readonly kind: "wait" }
  /** It is larger than the whole budget, or than the limit where it is patient. */
  | { readonly kind: "never" };

export interface AdmitOptions<K> {
  /**
   * Whether work waits for an entry. It leaves only after those that none waits for; and one that is fresh
   * stays until its work has begun, so that models do not take each other's place before any has run.
   */
  readonly isWanted?: (key: K) => boolean;
  /** Whether it may wait for pinned entries that are on their way out: see `limitBytes`. */
  readonly isPatient?: boolean;
}

export class ResidencyLedger<K> {
  readonly #entries = new Map<K, Entry>();
  /** Resident entries that are not pinned, least recently used first. */
  readonly #recency = new Set<K>();
  #budgetBytes: number;
  #limitBytes: number;
  #residentBytes = 0;
  #loadingBytes = 0;
  #pinnedBytes = 0;
  #evictions = 0;

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
    this.#limitBytes = budgetBytes;
  }

  /** For entries that are not pinned. */
  get budgetBytes(): number {
    return this.#budgetBytes;
  }

  /** Changes the budget; what is too much then leaves with `trim`. */
  set budgetBytes(bytes: number) {
    this.#budgetBytes = bytes;
    this.#limitBytes = bytes;
  }

  /**
   * What the budget will be when pinned entries have left that are being replaced: for a while there are
   * two of them. To be set after the budget, where it is more.
   */
  set limitBytes(bytes: number) {
    this.#limitBytes = bytes;
  }

  /** Resident entries that are not pinned. */
  get residentBytes(): number {
    return this.#residentBytes;
  }

  /** Reserved by entries that are being loaded and are not pinned. */
  get loadingBytes(): number {
    return this.#loadingBytes;
  }

  /** Pinned entries, resident or not. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  /** Entries that had to leave. */
  get evictions(): number {
    return this.#evictions;
  }

  /** Entries that are not pinned, least recently used first. */
  get recency(): readonly K[] {
    return [...this.#recency];
  }

  add(key: K, bytes: number): void {
    if (this.#entries.has(key)) throw new TypeError("this entry is there already");
    this.#entries.set(key, { bytes, state: "absent", uses: 0, isPinned: false, isFresh: false });
  }

  /** Forgets an entry, wherever it is. */
  remove(key: K): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#account(entry, -1);
    if (entry.isPinned) this.#pinnedBytes -= entry.bytes;
    this.#recency.delete(key);
    this.#entries.delete(key);
  }

  isPinned(key: K): boolean {
    return this.#entries.get(key)?.isPinned ?? false;
  }

  isResident(key: K): boolean {
    return this.#entries.get(key)?.state === "resident";
  }

  usesOf(key: K): number {
    return this.#entries.get(key)?.uses ?? 0;
  }

  /** Takes an entry out of the budget; it is not evicted any more. */
  pin(key: K): void {
    const entry = this.#get(key);
    if (entry.isPinned) return;
    this.#account(entry, -1);
    entry.isPinned = true;
    this.#pinnedBytes += entry.bytes;
    this.#recency.delete(key);
  }

  /** Puts an entry under the budget again, most recently used; that may then be exceeded: see `trim`. */
  unpin(key: K): void {
    const entry = this.#get(key);
    if (!entry.isPinned) return;
    entry.isPinned = false;
    this.#pinnedBytes -= entry.bytes;
    this.#account(entry, 1);
    if (entry.state === "resident") this.#recency.add(key);
  }

  /** A dispatch begins to use a resident entry, which makes it the most recently used one. */
  beginUse(key: K): void {
    const entry = this.#get(key);
    if (entry.state !== "resident") throw new TypeError("this entry is not resident");
    entry.uses++;
    entry.isFresh = false;
    if (this.#recency.delete(key)) this.#recency.add(key);
  }

  /** Keeps a resident entry until `endUse`, as a use does, though nobody has used it yet. */
  hold(key: K): void {
    const entry = this.#get(key);
    if (entry.state !== "resident") throw new TypeError("this entry is not resident");
    entry.uses++;
  }

  endUse(key: K): void {
    const entry = this.#entries.get(key);
    if (entry) entry.uses--;
  }

  /** Finds room for an absent entry, and reserves it. */
  admit(key: K, options: AdmitOptions<K> = {}): Admission<K> {
    const entry = this.#get(key);
    if (entry.state !== "absent") throw new TypeError(`this entry is ${entry.state} already`);
    // A pinned one has its room outside the budget, but what was there may not have left yet.
    const needed = entry.isPinned ? 0 : entry.bytes;
    const most = options.isPatient ? this.#limitBytes : this.#budgetBytes;
    if (needed > most) return { kind: "never" };
    const victims = this.#victims(needed, options);
    if (!victims) return { kind: "wait" };
    for (const victim of victims) this.#leave(victim);
    this.#evictions += victims.length;
    entry.state = "loading";
    this.#account(entry, 1);
    return { kind: "load", victims };
  }

  /** An admitted entry is there now. */
  loaded(key: K): void {
    const entry = this.#get(key);
    if (entry.state !== "loading") throw new TypeError(`this entry is ${entry.state}`);
    this.#account(entry, -1);
    entry.state = "resident";
    entry.isFresh = true;
    this.#account(entry, 1);
    if (!entry.isPinned) this.#recency.add(key);
  }

  /** An admitted entry did not come. */
  failed(key: K): void {
    const entry = this.#entries.get(key);
    if (entry?.state !== "loading") return;
    this.#account(entry, -1);
    entry.state = "absent";
  }

  /** Lets a resident entry go, pinned or not. One in use stays, and the answer is false. */
  release(key: K): boolean {
    const entry = this.#entries.get(key);
    if (entry?.state !== "resident" || entry.uses > 0) return false;
    this.#leave(key);
    return true;
  }

  /** Evicts what the budget has no room for any more, as far as that can leave. */
  trim(options: AdmitOptions<K> = {}): readonly K[] {
    const victims: K[] = [];
    if (this.#residentBytes + this.#loadingBytes <= this.#budgetBytes) return victims;
    for (const key of this.#evictable(options)) {
      if (this.#residentBytes + this.#loadingBytes <= this.#budgetBytes) break;
      this.#leave(key);
      this.#evictions++;
      victims.push(key);
    }
    return victims;
  }

  /** What has to leave for `needed` bytes, in that order; `undefined` when too little can. */
  #victims(needed: number, options: AdmitOptions<K>): K[] | undefined {
    let excess = this.#residentBytes + this.#loadingBytes + needed - this.#budgetBytes;
    const victims: K[] = [];
    for (const key of excess > 0 ? this.#evictable(options) : []) {
      if (excess <= 0) break;
      victims.push(key);
      excess -= this.#get(key).bytes;
    }
    return excess <= 0 ? victims : undefined;
  }

  /** What can leave, in the order in which it should. */
  #evictable({ isWanted }: AdmitOptions<K>): readonly K[] {
    const [unwanted, wanted]: [K[], K[]] = [[], []];
    for (const key of this.#recency) {
      const { uses, isFresh } = this.#get(key);
      if (uses > 0) continue;
      if (!isWanted?.(key)) unwanted.push(key);
      else if (!isFresh) wanted.push(key);
    }
    return [...unwanted, ...wanted];
  }

  #leave(key: K): void {
    const entry = this.#get(key);
    this.#account(entry, -1);
    entry.state = "absent";
    entry.isFresh = false;
    this.#recency.delete(key);
  }

  #account(entry: Entry, sign: 1 | -1): void {
    if (entry.isPinned) return;
    if (entry.state === "resident") this.#residentBytes += sign * entry.bytes;
    else if (entry.state === "loading") this.#loadingBytes += sign * entry.bytes;
  }

  #get(key: K): Entry {
    const entry = this.#entries.get(key);
    if (!entry) throw new TypeError("there is no such entry");
    return entry;
  }
}
