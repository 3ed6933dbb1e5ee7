/**
 * A child process's line to the supervisor that started it: the child says how far it is, and learns
 * that the supervisor is gone when the line ends. The line is a Unix socket and lives as long as both
 * processes do, whatever ends either of them.
 */

import { messageOf, UnavailableError } from "./errors.ts";

/** The variable with the path of the supervisor's socket. Unset: nobody supervises this process. */
export const SUPERVISOR_SOCKET_VARIABLE = "REACTANT_SUPERVISOR_SOCKET";
/** The variable with the name the supervisor has for this process. */
export const CHILD_NAME_VARIABLE = "REACTANT_SUPERVISOR_CHILD";

/**
 * How far a child is: `starting` (no port yet), `listening` (ports open), `ready` (answers requests),
 * `unready` (listens, but not now), `stopping` (drains).
 */
export type ChildState = "starting" | "listening" | "ready" | "unready" | "stopping";

/** Every `ChildState`. */
export const CHILD_STATES: readonly ChildState[] = [
  "starting",
  "listening",
  "ready",
  "unready",
  "stopping",
];

/** Where a child listens, as `host:port`. */
export interface ChildAddresses {
  readonly grpc?: string | undefined;
  readonly http?: string | undefined;
}

/** One line of the link: a JSON object. */
export interface ChildReport extends ChildAddresses {
  readonly name: string;
  readonly pid: number;
  readonly state: ChildState;
}

/** An open line to the supervisor. Disposing it closes it. */
export interface ParentLink extends Disposable {
  /** Tells the supervisor. Addresses given once are repeated with later states. Never throws. */
  report(state: ChildState, addresses?: ChildAddresses): void;
  /** Resolves when the supervisor is gone, or the link was disposed. */
  readonly closed: Promise<void>;
}

/**
 * Connects to the supervisor that started this process and reports `starting`; `undefined` when there
 * is none.
 *
 * @throws {UnavailableError} when there should be one and it does not answer
 */
export async function connectParent(
  environment: { get(name: string): string | undefined } = Deno.env,
): Promise<ParentLink | undefined> {
  const path = environment.get(SUPERVISOR_SOCKET_VARIABLE);
  if (path === undefined || path === "") return undefined;
  let connection: Deno.UnixConn;
  try {
    connection = await Deno.connect({ transport: "unix", path });
  } catch (error) {
    throw new UnavailableError(
      `The supervisor does not answer on ${JSON.stringify(path)}: ${messageOf(error)}; ` +
        `unset ${SUPERVISOR_SOCKET_VARIABLE} to run without one`,
      { cause: error },
    );
  }
  const link = new SocketLink(connection, environment.get(CHILD_NAME_VARIABLE) ?? "");
  link.report("starting");
  return link;
}

class SocketLink implements ParentLink {
  readonly closed: Promise<void>;
  readonly #connection: Deno.UnixConn;
  readonly #name: string;
  #addresses: ChildAddresses = {};
  #written: Promise<void> = Promise.resolve();
  #isDisposed = false;

  constructor(connection: Deno.UnixConn, name: string) {
    this.#connection = connection;
    this.#name = name;
    this.closed = this.#untilClosed();
  }

  report(state: ChildState, addresses: ChildAddresses = {}): void {
    this.#addresses = { ...this.#addresses, ...addresses };
    const report: ChildReport = { name: this.#name, pid: Deno.pid, state, ...this.#addresses };
    const bytes = new TextEncoder().encode(`${JSON.stringify(report)}\n`);
    this.#written = this.#written.then(() => this.#write(bytes)).catch(() => {
      // Nobody listens any more; `closed` says so.
    });
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#connection.close();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.#connection.write(bytes.subarray(at));
  }

  /** The supervisor writes nothing, so the only thing to be read is the end. */
  async #untilClosed(): Promise<void> {
    const buffer = new Uint8Array(64);
    try {
      while (await this.#connection.read(buffer) !== null);
    } catch {
      // A connection that breaks has ended too.
    }
  }
}
