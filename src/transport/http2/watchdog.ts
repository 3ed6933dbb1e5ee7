/**
 * The timeouts of a connection, all looked at by one timer: a slow preface or header block, SETTINGS
 * that nobody acknowledges, a peer that does not read, silence, idleness, and a drain or close that
 * takes too long.
 */

import { ErrorCode } from "./error_codes.ts";
import type { HeaderAssembler } from "./header_assembler.ts";
import type { ResolvedOptions } from "./options.ts";
import type { Sender } from "./sender.ts";
import type { StreamTable } from "./stream_table.ts";

/** What the watchdog sees of its connection, and what it may do to it. */
export interface WatchedConnection {
  readonly options: ResolvedOptions;
  readonly sender: Sender;
  readonly handler: { readonly assembler: HeaderAssembler };
  readonly streams: StreamTable;
  readonly hasPeerSettings: boolean;
  readonly isSettingsAcked: boolean;
  readonly lastReadMs: number;
  /** When the incomplete frame in the input buffer began; -1: there is none. */
  readonly partialSinceMs: number;
  fail(code: number, message: string): void;
  finishDrain(): void;
  drain(): Promise<void>;
  abandon(message: string): void;
}

/** How long the peer may take to acknowledge the first step of a drain. */
const DRAIN_STEP_MS = 1000;
/** How long a closing connection may take to flush and be closed by the peer as well. */
export const CLOSE_MS = 1000;
/** Nobody looks at it; a keepalive PING only has to be answered by something. */
const KEEPALIVE_PING = Uint8Array.of(0x61, 0x6c, 0x69, 0x76, 0x65, 0, 0, 0);

/** One per connection. Runs until `stop`. */
export class Watchdog {
  readonly #connection: WatchedConnection;
  readonly #cancel: () => void;
  readonly #openedMs: number;
  #idleSinceMs: number;
  /** What `usedIds` was when idleness was last looked at. */
  #usedIds = 0;
  #drainedMs = -1;
  #closingMs = -1;
  /** When the last keepalive PING went out; -1: none is unanswered. */
  #pingedMs = -1;
  #writtenBytes = 0;
  #writtenMs: number;

  constructor(connection: WatchedConnection) {
    const { clock, tickMs } = connection.options;
    this.#connection = connection;
    this.#openedMs = this.#idleSinceMs = this.#writtenMs = clock.now();
    this.#cancel = clock.every(tickMs, () => this.#tick(clock.now()));
  }

  stop(): void {
    this.#cancel();
  }

  drainStarted(nowMs: number): void {
    this.#drainedMs = nowMs;
  }

  closingStarted(nowMs: number): void {
    this.#closingMs = nowMs;
  }

  #tick(nowMs: number): void {
    if (this.#closingMs >= 0) {
      if (nowMs - this.#closingMs >= CLOSE_MS) this.#connection.abandon("closing took too long");
      return;
    }
    this.#checkHandshake(nowMs);
    this.#checkSocket(nowMs);
    this.#checkStreams(nowMs);
    this.#checkSilence(nowMs);
    this.#checkIdle(nowMs);
    if (this.#drainedMs >= 0 && nowMs - this.#drainedMs >= DRAIN_STEP_MS) {
      this.#connection.finishDrain();
    }
  }

  #checkHandshake(nowMs: number): void {
    const connection = this.#connection;
    const { headerTimeoutMs, settingsTimeoutMs } = connection.options.limits;
    if (!connection.hasPeerSettings) {
      if (nowMs - this.#openedMs >= headerTimeoutMs) {
        connection.fail(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS arrived in time");
      }
    } else if (!connection.isSettingsAcked && nowMs - this.#openedMs >= settingsTimeoutMs) {
      connection.fail(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS were not acknowledged in time");
    }
    const { assembler } = connection.handler;
    if (assembler.streamId !== 0 && nowMs - assembler.startedMs >= headerTimeoutMs) {
      connection.fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block did not arrive in time");
    }
    if (connection.partialSinceMs >= 0 && nowMs - connection.partialSinceMs >= headerTimeoutMs) {
      connection.fail(ErrorCode.ENHANCE_YOUR_CALM, "a frame did not arrive in time");
    }
  }

  /** A write under way must make some progress. */
  #checkSocket(nowMs: number): void {
    const { sender, options } = this.#connection;
    const { outbox } = sender;
    if (!outbox.isWriting || outbox.writtenBytes !== this.#writtenBytes) {
      this.#writtenBytes = outbox.writtenBytes;
      this.#writtenMs = nowMs;
    } else if (
      options.limits.sendTimeoutMs > 0 && nowMs - this.#writtenMs >= options.limits.sendTimeoutMs
    ) {
      this.#connection.abandon("the peer does not read");
    }
  }

  /** A stream with DATA waiting must keep up a minimum rate. */
  #checkStreams(nowMs: number): void {
    const { sendTimeoutMs, minSendBytes } = this.#connection.options.limits;
    if (sendTimeoutMs <= 0 || this.#connection.sender.queuedBytes === 0) return;
    for (const stream of this.#connection.streams.active.values()) {
      if (stream.queue.bytes === 0) continue;
      if (stream.markedMs < 0 || stream.sentBytes - stream.markedBytes >= minSendBytes) {
        stream.markedMs = nowMs;
        stream.markedBytes = stream.sentBytes;
      } else if (nowMs - stream.markedMs >= sendTimeoutMs) {
        this.#connection.streams.fail(stream, ErrorCode.CANCEL, "the peer does not take the data");
      }
    }
  }

  #checkSilence(nowMs: number): void {
    const { keepaliveIntervalMs, keepaliveTimeoutMs } = this.#connection.options;
    if (keepaliveIntervalMs <= 0) return;
    const { lastReadMs, sender } = this.#connection;
    if (this.#pingedMs >= 0 && lastReadMs >= this.#pingedMs) this.#pingedMs = -1;
    if (this.#pingedMs >= 0) {
      if (nowMs - this.#pingedMs >= keepaliveTimeoutMs) {
        this.#connection.abandon("the peer does not answer");
      }
    } else if (nowMs - lastReadMs >= keepaliveIntervalMs) {
      this.#pingedMs = nowMs;
      sender.ping(KEEPALIVE_PING, 0, false);
    }
  }

  #checkIdle(nowMs: number): void {
    const { idleTimeoutMs } = this.#connection.options;
    const { active, usedIds } = this.#connection.streams;
    if (active.size > 0 || usedIds !== this.#usedIds) {
      this.#usedIds = usedIds;
      this.#idleSinceMs = nowMs;
    } else if (idleTimeoutMs > 0 && nowMs - this.#idleSinceMs >= idleTimeoutMs) {
      void this.#connection.drain();
    }
  }
}
