/**
 * The folder cached executables lie in, shared by any number of processes. A file appears under its name
 * whole or not at all: it is written under a temporary name, which its writer keeps locked, and renamed.
 * A temporary file that nobody has locked is what a killed writer left behind. In the same way a locked
 * marker lies beside an entry while the plugin loads it: one that nobody has locked means that the
 * process did not survive that.
 */

import { join } from "node:path";
import { messageOf } from "../../errors.ts";
import {
  checkHeader,
  checkPayload,
  DamagedEntryError,
  encodeHeader,
  type EntryIdentity,
  HEADER_BYTES,
} from "./entry.ts";

const ENTRY = /^[0-9a-f]{64}\.executable$/;
const TEMPORARY = /^[0-9a-f]{64}\.[0-9a-f-]{36}\.temporary$/;
const LOADING = /^([0-9a-f]{64})\.[0-9a-f-]{36}\.loading$/;
/** Files looked at at the same time. */
const SCAN_WIDTH = 32;
/** A sweeping neighbour takes a new file away only in the moment before it is locked. */
const CREATE_ATTEMPTS = 5;

/** An entry or a file on its way to become one. */
export interface FolderFile {
  readonly path: string;
  readonly byteLength: number;
  /** When it was last used. */
  readonly usedMs: number;
  readonly isTemporary: boolean;
}

/** What `sweep` found. */
export interface Leftovers {
  /** Files of writers that were killed. */
  readonly unfinished: number;
  /** Names of entries during whose loading a process ended. */
  readonly fatal: readonly string[];
}

/** The calls a test can make fail. */
export interface FolderCalls {
  /** Writes to an open file, as `Deno.FsFile.write` does. */
  write(file: Deno.FsFile, bytes: Uint8Array): Promise<number>;
}

const SYSTEM_CALLS: FolderCalls = { write: (file, bytes) => file.write(bytes) };

export class CacheFolder {
  /** For messages. */
  readonly path: string;
  readonly #calls: FolderCalls;

  private constructor(path: string, calls: FolderCalls) {
    this.path = path;
    this.#calls = calls;
  }

  /**
   * Opens a folder, with what is missing of it created for this user alone.
   * @throws {Error} when it cannot be had, or when others could put files there: what lies in it runs
   *   as machine code in this process
   */
  static async open(path: string, calls = SYSTEM_CALLS): Promise<CacheFolder> {
    const folder = new CacheFolder(path, calls);
    await folder.#prepare();
    return folder;
  }

  /**
   * The payload of an entry, verified; `undefined` when there is none.
   * @throws {DamagedEntryError} when it is not what was written
   */
  async read(identity: EntryIdentity): Promise<Uint8Array | undefined> {
    const path = this.#pathOf(identity);
    const info = await Deno.lstat(path).catch(undefinedIfMissing);
    if (info === undefined) return undefined;
    // Opening a pipe would wait for its other end.
    if (!info.isFile) throw new DamagedEntryError("it is no regular file");
    const file = await Deno.open(path, { read: true }).catch(undefinedIfMissing);
    if (file === undefined) return undefined;
    try {
      const { size } = await file.stat();
      const claim = await checkHeader(await readUpTo(file, HEADER_BYTES), identity, size);
      const payload = await readUpTo(file, claim.byteLength);
      await checkPayload(payload, claim);
      return payload;
    } finally {
      file.close();
    }
  }

  /** Marks an entry as used now. */
  async touch(identity: EntryIdentity): Promise<void> {
    const now = new Date();
    await Deno.utime(this.#pathOf(identity), now, now);
  }

  /** Writes an entry, replacing the one that is there; gives the size of its file. */
  async write(identity: EntryIdentity, payload: Uint8Array): Promise<number> {
    const header = await encodeHeader(identity, payload);
    const { file, path } = await this.#createLocked(identity, "temporary");
    try {
      await this.#writeAll(file, header);
      await this.#writeAll(file, payload);
      await file.sync();
      await Deno.rename(path, this.#pathOf(identity));
    } catch (error) {
      // Gives a full disk its space back; a file that cannot be removed is swept at the next start.
      await Deno.remove(path).catch(() => {});
      throw error;
    } finally {
      // Only now, so that the file was locked for as long as it had its temporary name.
      file.close();
    }
    return header.length + payload.length;
  }

  /** Removes an entry; one that is gone already is no error. */
  async remove(identity: EntryIdentity): Promise<void> {
    await Deno.remove(this.#pathOf(identity)).catch(undefinedIfMissing);
  }

  /** Every entry and temporary file; files that are neither are nobody's business here. */
  async files(): Promise<FolderFile[]> {
    const names: string[] = [];
    for await (const { name } of Deno.readDir(this.path)) {
      if (ENTRY.test(name) || TEMPORARY.test(name)) names.push(name);
    }
    const found: FolderFile[] = [];
    for (let at = 0; at < names.length; at += SCAN_WIDTH) {
      await Promise.all(
        names.slice(at, at + SCAN_WIDTH).map(async (name) => {
          const path = join(this.path, name);
          const info = await Deno.lstat(path).catch(undefinedIfMissing);
          if (!info?.isFile) return;
          const usedMs = info.mtime?.getTime() ?? 0;
          found.push({ path, byteLength: info.size, usedMs, isTemporary: TEMPORARY.test(name) });
        }),
      );
    }
    return found;
  }

  /** Marks an entry as being loaded, until disposed. */
  async markLoading(identity: EntryIdentity): Promise<AsyncDisposable> {
    const { file, path } = await this.#createLocked(identity, "loading");
    const remove = async () => {
      // One that cannot be removed costs an entry at the next start, no more.
      await Deno.remove(path).catch(() => {});
      file.close();
    };
    try {
      // Only now, locked, does it say anything.
      await this.#writeAll(file, Uint8Array.of(1));
    } catch (error) {
      await remove();
      throw error;
    }
    return { [Symbol.asyncDispose]: remove };
  }

  /**
   * Removes what processes that are no more left behind, and entries during whose loading one ended.
   * What cannot be removed stays for the next time.
   */
  async sweep(): Promise<Leftovers> {
    let unfinished = 0;
    const fatal = new Set<string>();
    for await (const { name, isFile } of Deno.readDir(this.path)) {
      const loading = LOADING.exec(name);
      if (!isFile || (loading === null && !TEMPORARY.test(name))) continue;
      const path = join(this.path, name);
      const file = await Deno.open(path, { read: true }).catch(() => undefined);
      if (file === undefined) continue;
      try {
        if (!await file.tryLock(true)) continue;
        const { nlink, size } = await file.stat();
        // Its owner was done between our looking and our locking.
        if (nlink === 0) continue;
        const wasLoading = loading !== null && size > 0;
        if (wasLoading) {
          await Deno.remove(join(this.path, `${loading[1]}.executable`)).catch(undefinedIfMissing);
        }
        await Deno.remove(path);
        if (wasLoading) fatal.add(loading[1]!);
        else unfinished++;
      } catch {
        // A neighbour was faster, or the folder may only be read.
      } finally {
        file.close();
      }
    }
    return { unfinished, fatal: [...fatal] };
  }

  async #prepare(): Promise<void> {
    try {
      await Deno.mkdir(this.path, { recursive: true, mode: 0o700 });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
    const info = await Deno.lstat(this.path);
    const quoted = JSON.stringify(this.path);
    if (!info.isDirectory) throw new Error(`${quoted} is no folder`);
    const user = Deno.uid();
    if (info.uid !== user && info.uid !== 0) {
      throw new Error(`${quoted} belongs to user ${info.uid}, this is user ${user}`);
    }
    if ((info.mode! & 0o022) === 0) return;
    try {
      await Deno.chmod(this.path, 0o700);
    } catch (error) {
      throw new Error(`${quoted} can be written by others: ${messageOf(error)}`, { cause: error });
    }
  }

  /** A new file with a name of its own, locked for as long as it is open. */
  async #createLocked(
    identity: EntryIdentity,
    purpose: "temporary" | "loading",
  ): Promise<{ file: Deno.FsFile; path: string }> {
    for (let attempt = 1;; attempt++) {
      const path = join(this.path, `${nameOf(identity)}.${crypto.randomUUID()}.${purpose}`);
      const create = () => Deno.open(path, { write: true, createNew: true, mode: 0o600 });
      const file = await create().catch(async (error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
        // Somebody has cleared the cache while we run.
        await this.#prepare();
        return await create();
      });
      let isOurs = false;
      try {
        isOurs = await file.tryLock(true) && (await file.stat()).nlink !== 0;
      } finally {
        if (!isOurs) file.close();
      }
      if (isOurs) return { file, path };
      if (attempt === CREATE_ATTEMPTS) throw new Error("temporary files are taken away");
    }
  }

  async #writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      at += await this.#calls.write(file, bytes.subarray(at));
    }
  }

  #pathOf(identity: EntryIdentity): string {
    return join(this.path, `${nameOf(identity)}.executable`);
  }
}

/** The name of an entry, without its ending: its key in hexadecimal digits. */
export function nameOf({ key }: EntryIdentity): string {
  return Array.from(key, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The next bytes of a file, fewer only where it ends. */
async function readUpTo(file: Deno.FsFile, byteLength: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength);
  let at = 0;
  while (at < byteLength) {
    const count = await file.read(bytes.subarray(at));
    if (count === null) break;
    at += count;
  }
  return bytes.subarray(0, at);
}

function undefinedIfMissing(error: unknown): undefined {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
