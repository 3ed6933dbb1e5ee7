/** Events in the order of their time: a binary heap over two arrays. */
export class EventQueue {
  readonly #times: number[] = [];
  readonly #ids: number[] = [];

  get nextTime(): number {
    return this.#times[0] ?? Infinity;
  }

  push(time: number, id: number): void {
    let index = this.#times.length;
    this.#times.push(time);
    this.#ids.push(id);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#times[parent]! <= time) break;
      this.#times[index] = this.#times[parent]!;
      this.#ids[index] = this.#ids[parent]!;
      index = parent;
    }
    this.#times[index] = time;
    this.#ids[index] = id;
  }

  /** Takes the first event; the queue must not be empty. */
  pop(): number {
    const first = this.#ids[0]!;
    const time = this.#times.pop()!;
    const id = this.#ids.pop()!;
    const length = this.#times.length;
    if (length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= length) break;
      if (child + 1 < length && this.#times[child + 1]! < this.#times[child]!) child++;
      if (this.#times[child]! >= time) break;
      this.#times[index] = this.#times[child]!;
      this.#ids[index] = this.#ids[child]!;
      index = child;
    }
    this.#times[index] = time;
    this.#ids[index] = id;
    return first;
  }
}
