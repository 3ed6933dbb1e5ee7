/** The receiving half of a call, the same on both ends: messages, decompression, flow control. */

import { InternalError } from "../../errors.ts";
import type { BufferPool, Loan } from "../buffer_pool.ts";
import { type Message, messageLength } from "../handler.ts";
import { type Compression, decompress, type Encoding } from "./compression.ts";
import { MessageReader, type MessageSink } from "./message_reader.ts";

/** Bytes of whole messages held unread before no more window is given back. */
const UNREAD_BYTES = 64 * 1024;
/** What a message is counted as besides its bytes, so that empty ones are bounded too. */
const MESSAGE_OVERHEAD_BYTES = 64;

/** The call that messages arrive for. */
export interface InboundOwner {
  /**
   * The next message, decompressed, and its memory's loan if that is lent. May throw a `ServerError`, which
   * fails the call.
   */
  accept(message: Message, loan: Loan | undefined): void;
  /** Receiving has failed after `read` had returned. */
  inboundFailed(error: unknown): void;
  /** Gives received bytes back to the peer's window. */
  giveBack(bytes: number): void;
}

/**
 * Turns DATA into messages, in order. Window is given back as bytes arrive, except while messages wait
 * that nobody has asked for: a message in progress must get its window, or one larger than the window
 * would never complete.
 */
export class Inbound implements MessageSink {
  readonly #owner: InboundOwner;
  readonly #maxBytes: number;
  readonly #encoding: Encoding;
  readonly #reader: MessageReader;
  #unreadBytes = 0;
  #owedBytes = 0;
  /** Tail of the decompression chain: messages stay in order although inflating is asynchronous. */
  #inflating: Promise<void> | undefined;
  #isClosed = false;

  /** @param pool lends the memory of large messages */
  constructor(owner: InboundOwner, maxBytes: number, encoding: Encoding, pool?: BufferPool) {
    this.#owner = owner;
    this.#maxBytes = maxBytes;
    this.#encoding = encoding;
    this.#reader = new MessageReader(maxBytes, pool);
  }

  /**
   * Takes DATA; returns whether the chunk was kept. Throws what `MessageReader.read` and the owner's
   * `accept` throw; the chunk must then be taken as kept.
   */
  read(chunk: Uint8Array): boolean {
    const isKept = this.#reader.read(chunk, this);
    if (this.#unreadBytes >= UNREAD_BYTES) this.#owedBytes += chunk.length;
    else this.#owner.giveBack(chunk.length);
    return isKept;
  }

  /** A message has been put where it waits to be asked for. */
  queued(message: Message): void {
    this.#unreadBytes += messageLength(message) + MESSAGE_OVERHEAD_BYTES;
  }

  /** A queued message has been asked for. */
  taken(message: Message): void {
    this.#release(messageLength(message) + MESSAGE_OVERHEAD_BYTES);
  }

  /** No more DATA: runs `done` once all messages have been accepted. Throws when one is incomplete. */
  finish(done: () => void): void {
    if (!this.#reader.isBetweenMessages) {
      throw new InternalError("The stream ended inside a message");
    }
    if (this.#inflating === undefined) done();
    else void this.#inflating.then(() => this.#isClosed || done());
  }

  /** The call is over: what is still being inflated goes nowhere. */
  close(): void {
    this.#isClosed = true;
    this.#reader.close();
  }

  onMessage(message: Message, isCompressed: boolean, loan: Loan | undefined): void {
    if (this.#isClosed) return;
    if (!isCompressed && this.#inflating === undefined) return this.#owner.accept(message, loan);
    const encoding = isCompressed ? this.#encoding : undefined;
    if (encoding === "identity") {
      throw new InternalError("Message is marked compressed, but grpc-encoding is identity");
    }
    this.queued(message);
    this.#inflating = (this.#inflating ?? Promise.resolve()).then(() =>
      this.#inflate(message, encoding)
    );
  }

  async #inflate(message: Message, encoding: Compression | undefined): Promise<void> {
    if (this.#isClosed) return;
    try {
      const inflated = encoding === undefined
        ? message
        : await decompress(message, encoding, this.#maxBytes);
      if (this.#isClosed) return;
      this.#owner.accept(inflated, undefined);
      this.taken(message);
    } catch (error) {
      this.#owner.inboundFailed(error);
    }
  }

  #release(bytes: number): void {
    this.#unreadBytes -= bytes;
    if (this.#owedBytes > 0 && this.#unreadBytes < UNREAD_BYTES) {
      const owed = this.#owedBytes;
      this.#owedBytes = 0;
      this.#owner.giveBack(owed);
    }
  }
}
