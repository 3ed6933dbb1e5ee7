/** Counts who is using a version of a model, so that it is freed only when nobody does. */
export class Usage {
  #users = 0;
  #onIdle: (() => void)[] = [];

  /** To be followed by one `end`. */
  begin(): void {
    this.#users++;
  }

  end(): void {
    this.#users--;
    if (this.#users === 0) { for (const callback of this.#onIdle.splice(0)) callback(); }
  }

  /** Calls back once, as soon as nobody uses it: at once if nobody does now. */
  onIdle(callback: () => void): void {
    if (this.#users === 0) callback();
    else this.#onIdle.push(callback);
  }
}
