/** Lets uploads pass, unless somebody needs the device's memory to hold still. */
export class TransferGate {
  #passing = 0;
  #closers = 0;
  #opened = Promise.withResolvers<void>();
  #emptied: (() => void)[] = [];

  /** Runs an upload as soon as the gate is open. */
  async pass<T>(upload: () => Promise<T>): Promise<T> {
    while (this.#closers > 0) await this.#opened.promise;
    this.#passing++;
    try {
      return await upload();
    } finally {
      if (--this.#passing === 0) { for (const emptied of this.#emptied.splice(0)) emptied(); }
    }
  }

  /** Closes the gate until disposed; resolves when the uploads that have begun are done. */
  async close(): Promise<Disposable> {
    if (this.#closers++ === 0) this.#opened = Promise.withResolvers<void>();
    if (this.#passing > 0) await new Promise<void>((resolve) => this.#emptied.push(resolve));
    let isClosed = true;
    return {
      [Symbol.dispose]: () => {
        if (isClosed && --this.#closers === 0) this.#opened.resolve();
        isClosed = false;
      },
    };
  }
}
