/** The standard health service, `grpc.health.v1`. */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  InvalidArgumentError,
  NotFoundError,
  ResourceExhaustedError,
  UnavailableError,
} from "../../errors.ts";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as Wire,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../gen/grpc/health/v1/health_pb.ts";
import { type CallContext, joinMessage, type Message, type MethodHandler } from "../handler.ts";

/** Whether a service wants traffic. */
export type ServingStatus = "SERVING" | "NOT_SERVING";

/**
 * The status of each service by full name; `""` is the server as a whole. Written by whoever knows,
 * read by the health service. `close` belongs before the listener's shutdown: watchers are told and let
 * go, which otherwise would hold a drain up for its whole grace.
 */
export class HealthStatus {
  readonly #statuses = new Map<string, ServingStatus>();
  readonly #watchers = new Set<() => void>();
  #isClosed = false;

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get(service: string): ServingStatus | undefined {
    return this.#statuses.get(service);
  }

  entries(): Iterable<readonly [string, ServingStatus]> {
    return this.#statuses;
  }

  /** Has no effect once closed. */
  set(service: string, status: ServingStatus): void {
    if (this.#isClosed || this.#statuses.get(service) === status) return;
    this.#statuses.set(service, status);
    this.#notify();
  }

  /** The service is no longer known. */
  remove(service: string): void {
    if (!this.#isClosed && this.#statuses.delete(service)) this.#notify();
  }

  /** Everything is NOT_SERVING from here on, and watchers end. */
  close(): void {
    for (const service of this.#statuses.keys()) this.#statuses.set(service, "NOT_SERVING");
    this.#isClosed = true;
    this.#notify();
  }

  /** Calls `listener` after every change; returns how to stop that. */
  watch(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** Services in one List answer; more fail, as the protocol asks, with RESOURCE_EXHAUSTED. */
const MAX_LISTED = 100;

/** The methods of the health service, for a `MethodTable`. */
export function healthMethods(health: HealthStatus): [string, MethodHandler][] {
  return [
    ["/grpc.health.v1.Health/Check", {
      kind: "unary",
      handle: (request) => {
        const service = serviceOf(request);
        const status = health.get(service);
        if (status === undefined) {
          throw new NotFoundError(`Unknown service ${JSON.stringify(service.slice(0, 256))}`);
        }
        return encodeStatus(Wire[status]);
      },
    }],
    ["/grpc.health.v1.Health/List", { kind: "unary", handle: () => list(health) }],
    ["/grpc.health.v1.Health/Watch", {
      kind: "stream",
      handle: (requests, call) => watch(health, requests, call),
    }],
  ];
}

function list(health: HealthStatus): Message {
  const statuses = Object.fromEntries(
    Array.from(health.entries(), ([service, status]) => [
      service,
      create(HealthCheckResponseSchema, { status: Wire[status] }),
    ]),
  );
  if (Object.keys(statuses).length > MAX_LISTED) {
    throw new ResourceExhaustedError(`More than ${MAX_LISTED} services; ask for one with Check`);
  }
  return [toBinary(HealthListResponseSchema, create(HealthListResponseSchema, { statuses }))];
}

async function* watch(
  health: HealthStatus,
  requests: AsyncIterable<Message>,
  call: CallContext,
): AsyncGenerator<Message> {
  const first = await requests[Symbol.asyncIterator]().next();
  if (first.done) throw new InvalidArgumentError("Watch takes one request, got none");
  const service = serviceOf(first.value);
  let wake = () => {};
  const stop = health.watch(() => wake());
  const onAbort = () => wake();
  call.signal.addEventListener("abort", onAbort);
  try {
    let sent: Wire | undefined;
    while (!call.isAborted) {
      const known = health.get(service);
      const status = known === undefined ? Wire.SERVICE_UNKNOWN : Wire[known];
      if (status !== sent) {
        sent = status;
        yield encodeStatus(status);
      } else if (health.isClosed) {
        throw new UnavailableError("The server is shutting down");
      } else {
        await new Promise<void>((resolve) => wake = resolve);
      }
    }
  } finally {
    stop();
    call.signal.removeEventListener("abort", onAbort);
  }
}

function serviceOf(request: Message): string {
  try {
    return fromBinary(HealthCheckRequestSchema, joinMessage(request)).service;
  } catch (error) {
    throw new InvalidArgumentError("Not a HealthCheckRequest", { cause: error });
  }
}

function encodeStatus(status: Wire): Message {
  return [toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status }))];
}
