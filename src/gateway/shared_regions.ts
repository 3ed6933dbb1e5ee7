/** Which shared-memory regions clients registered through this gateway, as they asked for them. */

import { joinMessage, type Message } from "../transport/mod.ts";

/** As many as a worker takes. */
const MAX_REGIONS = 4096;

export class SharedRegions {
  readonly #requests = new Map<string, Message>();

  /** The request that registered a region, or `undefined`. */
  get(name: string): Message | undefined {
    return this.#requests.get(name);
  }

  /** Names and requests, in the order of registration. */
  entries(): [string, Message][] {
    return [...this.#requests];
  }

  /** Remembers a request; beyond the bound the oldest is forgotten. */
  add(name: string, request: Message): void {
    this.#requests.delete(name);
    // A copy, because chunks may be small parts of the large buffers they arrived in.
    this.#requests.set(name, [joinMessage(request).slice()]);
    if (this.#requests.size <= MAX_REGIONS) return;
    for (const oldest of this.#requests.keys()) {
      this.#requests.delete(oldest);
      return;
    }
  }

  delete(name: string): void {
    this.#requests.delete(name);
  }
}
