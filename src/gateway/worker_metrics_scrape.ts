/** `/metrics` of the gateway: its own, and those of every worker that can be had in time. */

import { directClient } from "../direct_http.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { mergeExpositions } from "../metrics/mod.ts";
import type { Member } from "./fleet_worker.ts";

/** Bound on one worker's part of a scrape, from connecting to the last byte. */
const TIMEOUT_MS = 5000;
/** An exposition this long is no exposition. */
const MAX_BYTES = 64 << 20;

export interface ScrapeOptions {
  /** Workers there are, in their order. */
  readonly members: () => readonly Member[];
  /** The gateway's own exposition, rendered when the workers' answers are in. */
  readonly ownText: () => Promise<string>;
  readonly logger: Logger;
  readonly timeoutMs?: number;
}

export class MetricsScrape {
  readonly #options: ScrapeOptions;
  /** Whether each metrics endpoint could be had the last time. */
  readonly #isUp = new Map<string, boolean>();

  constructor(options: ScrapeOptions) {
    this.#options = options;
  }

  /** Whether an endpoint answered the last time; `undefined` before the first. */
  isUp(endpoint: string): boolean | undefined {
    return this.#isUp.get(endpoint);
  }

  /** Everything together. A worker that is slow or gone is left out. */
  async text(): Promise<string> {
    const endpoints = this.#options.members()
      .map(({ metricsEndpoint }) => metricsEndpoint)
      .filter((endpoint) => endpoint !== undefined);
    const answers = await Promise.all(endpoints.map((endpoint) => this.#fetch(endpoint)));
    this.#isUp.clear();
    endpoints.forEach((endpoint, index) => this.#isUp.set(endpoint, answers[index] !== undefined));
    const own = await this.#options.ownText();
    return mergeExpositions([own, ...answers.filter((text) => text !== undefined)]);
  }

  async #fetch(endpoint: string): Promise<string | undefined> {
    try {
      const url = `http://${endpoint}/metrics`;
      // A connection kept for later would be one to a worker that may be gone by then.
      using client = directClient(url, { poolMaxIdlePerHost: 0 });
      const response = await fetch(url, {
        client,
        signal: AbortSignal.timeout(this.#options.timeoutMs ?? TIMEOUT_MS),
      });
      if (response.status === 200) return await boundedText(response);
      await response.body?.cancel();
      throw new Error(`HTTP status ${response.status}`);
    } catch (error) {
      this.#options.logger.debug("no metrics", { endpoint, error: messageOf(error) });
      return undefined;
    }
  }
}

async function boundedText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error(`more than ${MAX_BYTES} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
