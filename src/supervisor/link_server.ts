/** The supervisor's end of the lines its children report on. */

import { CHILD_STATES, type ChildReport } from "../parent_link.ts";
import { LineSplitter } from "./line_splitter.ts";

/** Longest report taken; they are some hundred bytes. */
const MAX_REPORT_BYTES = 16 << 10;
/** Time until a line that could not be taken is tried again. */
const RETRY_MS = 200;

/**
 * Listens on a socket and hands on every well-formed report. Closing it ends every line, which is how
 * children learn that they are alone.
 */
export class LinkServer implements Disposable {
  readonly path: string;
  readonly #listener: Deno.UnixListener;
  readonly #connections = new Set<Deno.UnixConn>();
  #isDisposed = false;

  /** @param path of a socket to be made, in a folder only this user can enter */
  constructor(path: string, onReport: (report: ChildReport) => void) {
    this.path = path;
    this.#listener = Deno.listen({ transport: "unix", path });
    this.#accept(onReport);
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
  }

  async #accept(onReport: (report: ChildReport) => void): Promise<void> {
    while (!this.#isDisposed) {
      try {
        const connection = await this.#listener.accept();
        this.#connections.add(connection);
        this.#read(connection, onReport);
      } catch {
        if (this.#isDisposed) return;
        // No descriptor is free just now; the child waits, and is ready a little later.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #read(connection: Deno.UnixConn, onReport: (report: ChildReport) => void): Promise<void> {
    const splitter = new LineSplitter(MAX_REPORT_BYTES);
    const buffer = new Uint8Array(4096);
    try {
      for (;;) {
        const size = await connection.read(buffer);
        if (size === null) break;
        for (const line of splitter.push(buffer.subarray(0, size))) {
          const report = parseReport(line);
          if (report !== undefined) onReport(report);
        }
      }
    } catch {
      // A child that was killed breaks its line; its exit is seen elsewhere.
    }
    if (this.#connections.delete(connection)) connection.close();
  }
}

/** A report, or `undefined` for what is none. */
export function parseReport(line: Uint8Array): ChildReport | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(line));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { name, pid, state, grpc, http } = value as Record<string, unknown>;
  const known = CHILD_STATES.find((candidate) => candidate === state);
  if (typeof name !== "string" || typeof pid !== "number" || known === undefined) return undefined;
  return {
    name,
    pid,
    state: known,
    ...(typeof grpc === "string" ? { grpc } : {}),
    ...(typeof http === "string" ? { http } : {}),
  };
}
