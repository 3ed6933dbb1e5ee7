/**
 * One worker: the connections to it, what is believed of it, and how many calls it may have. Probes have
 * a connection of their own, so that a worker full of long requests still answers them.
 *
 * States: in the fleet → leaving (no new requests; those in progress finish) → closed.
 */

import { UnavailableError } from "../errors.ts";
import {
  type CallOptions,
  GrpcClient,
  type Message,
  type UnaryResponse,
} from "../transport/mod.ts";
import type { WorkerId } from "./fleet.ts";
import { OperationGate } from "./operation_gate.ts";
import { StreamSlots } from "./stream_slots.ts";
import { WorkerHealth } from "./worker_health.ts";

/** Who a worker is. */
export interface Member {
  readonly id: WorkerId;
  /** Its label in metrics and logs. */
  readonly name: string;
  /** `host:port` of its HTTP listener; `undefined`: its metrics are not merged. */
  readonly metricsEndpoint: string | undefined;
}

/** How workers are called; the same for all of them. */
export interface WorkerClientOptions {
  readonly maxConcurrentStreams: number;
  /** Calls that may wait for a stream of one worker. */
  readonly maxWaitingCalls: number;
  readonly maxRequestBytes: number;
  readonly maxResponseBytes: number;
  /** Without it: cleartext. */
  readonly tls:
    | { readonly ca: string | undefined; readonly serverName: string | undefined }
    | undefined;
}

/** Workers are near and come back soon: never wait long before the next try. */
const BACKOFF = { initialMs: 100, maxMs: 1000 };
/** Small messages, but an index of very many models is one too. */
const PROBE_MESSAGE_BYTES = 64 << 20;
const CONNECT_TIMEOUT_MS = 5000;
/** Longer than a probe may take: what does not even connect hangs just as well. */
const PROBE_CONNECT_TIMEOUT_MS = 10_000;

export class FleetWorker {
  readonly id: WorkerId;
  readonly health = new WorkerHealth();
  readonly slots: StreamSlots;
  readonly operations = new OperationGate();

  readonly #options: WorkerClientOptions;
  #member: Member;
  #inference: GrpcClient;
  #probes: GrpcClient;
  #isLeaving = false;
  #onIdle: (() => void) | undefined;

  constructor(member: Member, options: WorkerClientOptions) {
    this.id = member.id;
    this.#member = member;
    this.#options = options;
    this.slots = new StreamSlots({
      name: () => this.name,
      limit: options.maxConcurrentStreams,
      maxWaiting: options.maxWaitingCalls,
    });
    this.#inference = this.#connectInference();
    this.#probes = this.#connectProbes();
  }

  get member(): Member {
    return this.#member;
  }

  get name(): string {
    return this.#member.name;
  }

  /** No new requests go there. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** The same worker under another name, or with another metrics address. */
  describe(member: Member): void {
    this.#member = member;
  }

  /** An inference. The caller holds a slot. Failures are `ServerError`s. */
  infer(path: string, request: Message, options: CallOptions): Promise<UnaryResponse> {
    return this.#inference.unary(path, request, options);
  }

  /** Anything else: probes, broadcasts, questions. It takes no slot. */
  ask(path: string, request: Message, options: CallOptions): Promise<UnaryResponse> {
    return this.#probes.unary(path, request, options);
  }

  /**
   * Drops all connections, because nothing comes through them any more: calls in progress end as failed
   * calls do, those that wait go elsewhere, and the next ones connect anew.
   */
  reset(): void {
    const old = [this.#inference, this.#probes];
    this.#inference = this.#connectInference();
    this.#probes = this.#connectProbes();
    this.slots.failWaiting(new UnavailableError("The worker does not answer"));
    for (const client of old) void client.close();
  }

  /** A call gave its slot back. */
  slotLeft(): void {
    this.slots.leave();
    if (this.slots.inUse === 0) this.#onIdle?.();
  }

  /** Lets calls in progress finish, for up to `graceMs`, and closes the connections. */
  async leave(graceMs: number): Promise<void> {
    this.#isLeaving = true;
    if (this.slots.inUse > 0 && graceMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, graceMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.slots.failWaiting(new UnavailableError("The worker left the fleet"));
    await Promise.all([this.#inference.close(), this.#probes.close()]);
  }

  #connectInference(): GrpcClient {
    return new GrpcClient({
      target: this.id,
      tls: this.#options.tls,
      maxSendBytes: this.#options.maxRequestBytes,
      maxReceiveBytes: this.#options.maxResponseBytes,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      backoff: BACKOFF,
      userAgent: "reactantserver-gateway",
    });
  }

  #connectProbes(): GrpcClient {
    return new GrpcClient({
      target: this.id,
      tls: this.#options.tls,
      maxReceiveBytes: PROBE_MESSAGE_BYTES,
      maxConnections: 1,
      connectTimeoutMs: PROBE_CONNECT_TIMEOUT_MS,
      backoff: BACKOFF,
      userAgent: "reactantserver-gateway-probe",
    });
  }
}
