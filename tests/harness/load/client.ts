/**
 * One closed-loop client of the mixed load: sends one request after the other, right and wrong ones, some
 * of them abandoned, and judges how each ends.
 */

import { ServerError } from "../../../src/errors.ts";
import {
  decodeInferResponse,
  encodeInferRequest,
  type InferParameters,
} from "../../../src/protocol/mod.ts";
import type { Random } from "../../../src/protocol/testing/random.ts";
import { GrpcClient, type Message } from "../../../src/transport/mod.ts";
import { badRequest } from "./bad_requests.ts";
import { type Exchange, LOAD_MODELS, type LoadModel, type Refusal } from "./models.ts";
import type { Slot } from "./regions.ts";
import type { Mode, Tally } from "./tally.ts";

const INFER = "/inference.GRPCInferenceService/ModelInfer";

/** Of a hundred requests. */
const SHARES: readonly (readonly [Mode, number])[] = [
  ["right", 69],
  ["cancelled", 10],
  ["late", 8],
  ["failing", 5],
  ["bad", 6],
  ["cut off", 2],
];

const FAILING = LOAD_MODELS.filter(({ fail }) => fail !== undefined);

export interface LoadClientOptions {
  readonly target: string;
  /** Shared with other clients, so that many calls travel on one connection. */
  readonly grpc: GrpcClient;
  readonly random: Random;
  readonly slot: Slot;
  readonly tally: Tally;
}

/** How a call ended: with a message, or with a status. */
type Ending = { readonly message: Message } | { readonly status: string; readonly text: string };

export class LoadClient {
  readonly #options: LoadClientOptions;

  constructor(options: LoadClientOptions) {
    this.#options = options;
  }

  /** Sends requests until `isOver` says so. */
  async run(isOver: () => boolean): Promise<void> {
    const { random, slot } = this.#options;
    while (!isOver()) {
      const mode = pickMode(random);
      if (mode === "bad") await this.#refused(mode, badRequest(random, slot));
      else if (mode === "failing") await this.#refused(mode, random.pick(FAILING).fail!(random));
      else if (mode === "cut off") await this.#cutOff();
      else await this.#asked(mode, random.pick(LOAD_MODELS));
    }
  }

  async #asked(mode: "right" | "cancelled" | "late", model: LoadModel): Promise<void> {
    const { random, slot, tally } = this.#options;
    const exchange = model.ask(random, slot, mode !== "right");
    const id = String(random.next());
    const options: { signal?: AbortSignal; deadlineMs?: number } = {};
    let parameters: InferParameters | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limitMs = random.below(12_000) / 1000;
    if (mode === "cancelled") {
      const abort = new AbortController();
      options.signal = abort.signal;
      timer = setTimeout(() => abort.abort(), limitMs);
    } else if (mode === "late" && random.below(3) === 0) {
      const value = Math.ceil(limitMs * 1e6) + 1;
      parameters = new Map([["reactant_timeout_ns", { kind: "int64", value }]]);
    } else if (mode === "late") {
      options.deadlineMs = performance.now() + limitMs;
    }
    const startMs = performance.now();
    const ending = await this.#send(
      encodeInferRequest({ ...exchange.request, id, parameters }),
      options,
    );
    clearTimeout(timer);
    if ("message" in ending) {
      if (mode === "right") tally.took(model.name, performance.now() - startMs);
      const wrong = judge(exchange, id, ending.message);
      tally.ended(mode, "OK", wrong === undefined ? undefined : `${model.name}: ${wrong}`);
      return;
    }
    const isExpected = mode === "cancelled"
      ? ending.status === "CANCELLED"
      : mode === "late" && ending.status === "DEADLINE_EXCEEDED";
    tally.ended(mode, ending.status, isExpected ? undefined : `${model.name}: ${ending.text}`);
  }

  async #refused(mode: Mode, refusal: Refusal): Promise<void> {
    const { request, status, says, deadlineInMs } = refusal;
    const message = request instanceof Uint8Array ? [request] : encodeInferRequest(request);
    const deadlineMs = deadlineInMs === undefined ? undefined : performance.now() + deadlineInMs;
    const ending = await this.#send(message, { deadlineMs });
    if ("message" in ending) {
      this.#options.tally.ended(mode, "OK", `${status} was due`);
      return;
    }
    const isExpected = ending.status === status && says.test(ending.text);
    const complaint = isExpected ? undefined : `${status} ${says} was due: ${ending.text}`;
    this.#options.tally.ended(mode, ending.status, complaint);
  }

  /** A connection of its own that goes away with several calls in progress. */
  async #cutOff(): Promise<void> {
    const { target, random, slot, tally } = this.#options;
    await using grpc = {
      client: new GrpcClient({ target }),
      [Symbol.asyncDispose]() {
        return this.client.close();
      },
    };
    const calls = Array.from({ length: 4 }, async () => {
      const { request } = random.pick(LOAD_MODELS).ask(random, slot, true);
      const ending = await this.#send(encodeInferRequest(request), {}, grpc.client);
      const status = "message" in ending ? "OK" : ending.status;
      const isExpected = ["OK", "CANCELLED", "UNAVAILABLE"].includes(status);
      tally.ended("cut off", status, isExpected ? undefined : (ending as { text: string }).text);
    });
    await new Promise((resolve) => setTimeout(resolve, random.below(8)));
    await grpc.client.close();
    await Promise.all(calls);
  }

  async #send(
    message: Message,
    options: { signal?: AbortSignal; deadlineMs?: number },
    grpc = this.#options.grpc,
  ): Promise<Ending> {
    this.#options.tally.started();
    try {
      return { message: (await grpc.unary(INFER, message, options)).message };
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return { status: error.status, text: error.message };
    }
  }
}

function judge(exchange: Exchange, id: string, message: Message): string | undefined {
  const answer = decodeInferResponse(message);
  if (answer.modelName !== exchange.request.modelName || answer.id !== id) {
    return `the answer is for ${answer.modelName} ${answer.id}`;
  }
  return exchange.check(answer);
}

function pickMode(random: Random): Mode {
  let at = random.below(100);
  for (const [mode, share] of SHARES) if ((at -= share) < 0) return mode;
  throw new Error("the shares do not add up to 100");
}
