/**
 * Compiled programs on disk, so that a start does not compile what an earlier one did. Nothing here can
 * fail a model: what cannot be read is compiled, what cannot be written is not kept.
 *
 * Entries are found by a digest of everything that decides what compiling gives, are verified whole
 * before the plugin sees them, and are removed, longest unused first, when together they are larger than
 * allowed. Any number of processes share a folder: entries are immutable and appear by a rename, so two
 * writers of one entry do no harm.
 */

import { join } from "node:path";
import { getAffinity } from "../../ffi/libc/mod.ts";
import { messageOf, ServerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, CompileSettings, Program } from "./backend.ts";
import { DamagedEntryError, type EntryIdentity, HEADER_BYTES } from "./executable_cache/entry.ts";
import { CacheFolder, type FolderCalls, nameOf } from "./executable_cache/folder.ts";
import { type CompilerIdentity, executableKey } from "./executable_cache/key.ts";

/** Where in the cache directory the entries are; other things may be cached beside them. */
const FOLDER = "executables";
/** Serialized programs that wait for the disk; beyond it, compilations wait as well. */
const MAX_WAITING_BYTES = 256 * 2 ** 20;
/** How long closing goes on writing what waits. */
const CLOSE_LIMIT_MS = 5000;
/** The folder is measured again when this share of its limit was written since. */
const MEASURE_SHARE = 1 / 64;

export interface ExecutableCacheOptions {
  /** `cache_dir`; created when it is missing. */
  readonly directory: string;
  /** Bound on all files together; 0: none. */
  readonly maxBytes: number;
  readonly backend: Backend;
  readonly deviceOrdinal: number;
  readonly logger: Logger;
  /** Replaced by tests. */
  readonly calls?: FolderCalls;
}

/** A program, and whether it needed no compiling. The caller owns it. */
export interface CachedProgram {
  readonly program: Program;
  readonly isCached: boolean;
}

/**
 * What can be wrong with the cache: entries that are `damaged`, cannot be read (`unreadable`), or that
 * the plugin does not take (`refused`); programs that could not be kept (`unwritten`).
 */
export type CacheErrorKind = "damaged" | "unreadable" | "refused" | "unwritten";

/** Counts since the start, and the size of the folder when last measured. */
export interface ExecutableCacheReading {
  readonly hits: number;
  readonly misses: number;
  readonly errors: Readonly<Record<CacheErrorKind, number>>;
  readonly bytes: number;
}

/**
 * Opens the cache; where its folder cannot be used, warns and gives `undefined`: the server does without.
 */
export async function openExecutableCache(
  options: ExecutableCacheOptions,
): Promise<ExecutableCache | undefined> {
  const { directory, calls, logger } = options;
  try {
    const folder = await CacheFolder.open(join(directory, FOLDER), calls);
    const { unfinished, fatal } = await folder.sweep();
    if (unfinished > 0) {
      logger.info("removed unfinished files of the executable cache", { files: unfinished });
    }
    for (const entry of fatal) {
      logger.warn("a process ended while it loaded a cached program, which is compiled again", {
        entry,
      });
    }
    return new ExecutableCache(folder, options);
  } catch (error) {
    logger.warn("compiled programs are not cached", {
      cacheDir: directory,
      reason: messageOf(error),
    });
    return undefined;
  }
}

export class ExecutableCache implements AsyncDisposable {
  readonly #folder: CacheFolder;
  readonly #backend: Backend;
  readonly #compiler: CompilerIdentity;
  readonly #maxBytes: number;
  readonly #logger: Logger;
  readonly #errors: Record<CacheErrorKind, number> = {
    damaged: 0,
    unreadable: 0,
    refused: 0,
    unwritten: 0,
  };
  #hits = 0;
  #misses = 0;
  #bytes = 0;
  #writtenSinceMeasured = 0;
  /** Ends when everything that was to be done on disk is done; never rejects. */
  #work: Promise<void> = Promise.resolve();
  #waitingBytes = 0;
  /** Why the last program was not kept, so that a full disk is told of once. */
  #lastFailure: string | undefined;
  #isClosed = false;

  /** Use `openExecutableCache`. */
  constructor(folder: CacheFolder, options: ExecutableCacheOptions) {
    this.#folder = folder;
    this.#backend = options.backend;
    this.#compiler = {
      backend: options.backend,
      deviceOrdinal: options.deviceOrdinal,
      xlaFlags: Deno.env.get("XLA_FLAGS") ?? "",
      processors: getAffinity().length,
    };
    this.#maxBytes = options.maxBytes === 0 ? Infinity : options.maxBytes;
    this.#logger = options.logger;
    this.#later(() => this.#measure());
  }

  /**
   * A program, loaded from the cache or compiled; one that had to be compiled is written in the
   * background.
   * @throws {PjrtError} when it does not compile
   */
  async load(code: Uint8Array, settings: CompileSettings = {}): Promise<CachedProgram> {
    const identity: EntryIdentity = {
      key: await executableKey(code, settings, this.#compiler),
      fingerprint: this.#backend.fingerprint,
    };
    const cached = await this.#find(identity);
    if (cached !== undefined) {
      this.#hits++;
      return { program: cached, isCached: true };
    }
    this.#misses++;
    const program = await this.#backend.compile(code, settings);
    await this.#keep(identity, program);
    return { program, isCached: false };
  }

  /** What the metrics show. */
  reading(): ExecutableCacheReading {
    return {
      hits: this.#hits,
      misses: this.#misses,
      errors: { ...this.#errors },
      bytes: this.#bytes,
    };
  }

  /** Writes what waits, for a few seconds at most; the rest is compiled again another time. */
  async [Symbol.asyncDispose](): Promise<void> {
    const timer = setTimeout(() => this.#isClosed = true, CLOSE_LIMIT_MS);
    await this.#work;
    clearTimeout(timer);
    this.#isClosed = true;
  }

  async #find(identity: EntryIdentity): Promise<Program | undefined> {
    let payload: Uint8Array | undefined;
    try {
      payload = await this.#folder.read(identity);
    } catch (error) {
      const kind = error instanceof DamagedEntryError ? "damaged" : "unreadable";
      await this.#discard(identity, kind, error);
    }
    if (payload === undefined) return undefined;
    let program: Program;
    try {
      // Should the plugin not survive this entry, the next start does without it. A folder that may
      // only be read is a cache too, though without that protection.
      await using _loading = await this.#folder.markLoading(identity).catch(() => undefined);
      program = await this.#backend.deserialize(payload);
    } catch (error) {
      // The client is closing: that says nothing about the entry.
      if (error instanceof ServerError) throw error;
      await this.#discard(identity, "refused", error);
      return undefined;
    }
    // Recency is worth no failure.
    await this.#folder.touch(identity).catch(() => {});
    return program;
  }

  async #discard(identity: EntryIdentity, kind: CacheErrorKind, error: unknown): Promise<void> {
    this.#errors[kind]++;
    this.#logger.warn("a cached program cannot be used and is compiled again", {
      entry: nameOf(identity),
      problem: kind,
      reason: messageOf(error),
    });
    // Where it cannot be removed, the program that is compiled now replaces it.
    await this.#folder.remove(identity).catch(() => {});
  }

  async #keep(identity: EntryIdentity, program: Program): Promise<void> {
    if (this.#isClosed) return;
    let payload: Uint8Array;
    try {
      payload = await program.serialize();
    } catch (error) {
      this.#notKept(error);
      return;
    }
    if (HEADER_BYTES + payload.length > this.#maxBytes) {
      this.#logger.debug("a program is larger than the executable cache may be", {
        bytes: payload.length,
      });
      return;
    }
    this.#waitingBytes += payload.length;
    const isWritten = this.#later(async () => {
      try {
        if (!this.#isClosed) await this.#write(identity, payload);
      } finally {
        this.#waitingBytes -= payload.length;
      }
    });
    if (this.#waitingBytes > MAX_WAITING_BYTES) await isWritten;
  }

  async #write(identity: EntryIdentity, payload: Uint8Array): Promise<void> {
    try {
      await this.#makeRoom(HEADER_BYTES + payload.length);
      const written = await this.#folder.write(identity, payload);
      this.#bytes += written;
      this.#writtenSinceMeasured += written;
      this.#lastFailure = undefined;
    } catch (error) {
      this.#notKept(error);
    }
  }

  /** Measures again when neighbours may have filled the folder meanwhile. */
  async #makeRoom(byteLength: number): Promise<void> {
    const mayBeFull = this.#bytes + byteLength > this.#maxBytes;
    const isStale = this.#writtenSinceMeasured + byteLength > this.#maxBytes * MEASURE_SHARE;
    if (mayBeFull || isStale) await this.#shrinkTo(this.#maxBytes - byteLength);
  }

  /** Measures the folder and removes what was not used for longest until the rest is small enough. */
  async #shrinkTo(maxBytes: number): Promise<void> {
    const files = await this.#folder.files();
    let bytes = files.reduce((sum, file) => sum + file.byteLength, 0);
    const entries = files.filter((file) => !file.isTemporary)
      .sort((a, b) => a.usedMs - b.usedMs || (a.path < b.path ? -1 : 1));
    for (const { path, byteLength } of entries) {
      if (bytes <= maxBytes) break;
      // A neighbour may have been faster.
      await Deno.remove(path).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
      bytes -= byteLength;
    }
    this.#bytes = bytes;
    this.#writtenSinceMeasured = 0;
  }

  /** Once, at the start: there may be more than is allowed now. */
  async #measure(): Promise<void> {
    try {
      await this.#shrinkTo(this.#maxBytes);
    } catch (error) {
      this.#logger.warn("the executable cache cannot be measured", { reason: messageOf(error) });
    }
  }

  #notKept(error: unknown): void {
    this.#errors.unwritten++;
    // Messages name temporary files, which differ each time; codes do not.
    const { code } = error as { code?: unknown };
    const failure = typeof code === "string" ? code : messageOf(error);
    if (failure === this.#lastFailure) return;
    this.#lastFailure = failure;
    this.#logger.warn("a compiled program could not be cached", {
      folder: this.#folder.path,
      reason: messageOf(error),
    });
  }

  /** Runs work on the disk, one piece after the other. */
  #later(work: () => Promise<void>): Promise<void> {
    return this.#work = this.#work.then(work);
  }
}
