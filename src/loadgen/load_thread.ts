/**
 * Entry point of a load thread: a connection, ways and an answer check of its own, so that encoding, copying
 * and comparing of tensors take place beside the thread that keeps time and books.
 */

import { ConfigError, messageOf } from "../errors.ts";
import { Logger } from "../log.ts";
import { AnswerCheck } from "./answer_check.ts";
import { LocalAsker } from "./asker.ts";
import type { FromThread, ToThread } from "./thread_messages.ts";
import { connect, openWays } from "./ways.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<ToThread>) => void) | null;
  postMessage(message: FromThread): void;
};

type Start = Extract<ToThread, { type: "start" }>;
type Ask = Extract<ToThread, { type: "ask" }>;

/** What a started thread works with. */
interface Work {
  ask(message: Ask): Promise<void>;
  cut(): void;
  end(): Promise<void>;
}

function start({ settings, requests, inFlight }: Start): Work {
  const logger = new Logger({ write: (line) => scope.postMessage({ type: "log", line }) });
  const connection = connect(settings, inFlight);
  const ways = openWays({ settings, connection, requests, inFlight, logger });
  const check = new AnswerCheck(settings.expect, settings.tolerance);
  const asker = new LocalAsker({ senders: ways.senders, check, now: () => performance.now() });
  const cut = new AbortController();
  scope.postMessage({ type: "started", ways: asker.ways });
  return {
    async ask({ id, request, way, deadlineMs }) {
      try {
        const limits = { deadlineMs, signal: cut.signal };
        const { outcome, endMs, isChecked } = await asker.ask(requests[request]!, way, limits);
        const endEpochMs = performance.timeOrigin + endMs;
        scope.postMessage({ type: "asked", id, outcome, endEpochMs, isChecked });
      } catch (error) {
        scope.postMessage({ type: "failed", id, reason: describe(error) });
      }
    },
    cut: () => cut.abort(),
    async end() {
      try {
        await ways[Symbol.asyncDispose]();
      } finally {
        await connection[Symbol.asyncDispose]();
      }
    },
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

let work: Work | undefined;

scope.onmessage = ({ data }) => {
  switch (data.type) {
    case "start":
      try {
        work = start(data);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        scope.postMessage({ type: "refused", reason: messageOf(error) });
      }
      break;
    case "ask":
      void work?.ask(data);
      break;
    case "cut":
      work?.cut();
      break;
    case "end":
      void (work?.end() ?? Promise.resolve()).finally(() => scope.postMessage({ type: "ended" }));
      break;
  }
};
