/**
 * One host copy of a model's weights for all workers of a node, in POSIX shared memory. Who comes first
 * fills it, who comes later maps it; a lock on the region itself says which of the two one is, and who is
 * still there. The kernel lets go of the locks of a process however that ends, so what a killed writer
 * leaves is recognised (no header, nobody has it) and made anew.
 */

import {
  EACCES,
  EAGAIN,
  type Mapping,
  SHARED_OBJECT_FOLDER,
  SharedObject,
  SystemCallError,
  unlinkSharedMemory,
} from "../../../ffi/libc/mod.ts";
import { weightFileIdentity, type WeightSpec } from "../../bundle/mod.ts";
import type { Logger } from "../../log.ts";
import {
  HEADER_BYTES,
  readHeader,
  type RegionHeader,
  type RegionSource,
  writeHeader,
} from "./region_header.ts";

const PREFIX = "reactant-weights-";
/** Changes with anything about how contents lie in a region. */
const LAYOUT_VERSION = 1;
/** Between looks at a region that another process is filling. */
const RETRY_MILLISECONDS = 20;
/** A writer that has not come to its end after so long, and so much for each byte, is not going to. */
const PATIENCE_MILLISECONDS = 60_000;
const PATIENCE_MILLISECONDS_PER_BYTE = 1000 / 50e6;
/** Hashed at once; the digest of a region is that of the digests of its slices. */
const DIGEST_SLICE_BYTES = 16 * 2 ** 20;

/** What a region is to hold. */
export interface RegionRequest {
  /** Everything its contents follow from; equal keys mean equal bytes. */
  readonly key: Uint8Array;
  readonly byteLength: number;
  readonly source: RegionSource;
  /** Permission bits of a new one, whatever the umask; the owner always may read and write. */
  readonly mode: number;
  readonly logger: Logger;
  /** How long another process may take to fill it. Default: long enough for a slow disk. */
  readonly patienceMs?: number;
  /** Called before a new one takes memory, and disposed when it has it; rejects where there is none. */
  readonly claim?: () => Promise<Disposable> | undefined;
  /** Writes the contents from byte `start` of the mapping on. */
  readonly fill: (target: Mapping, start: number) => Promise<void>;
}

/** A complete region, mapped for reading. Disposing it removes the region when nobody else has it. */
export interface SharedRegion extends Disposable {
  readonly name: string;
  /** Whether it had been filled before. */
  readonly isReused: boolean;
  /** Whether it has its length still and had it whenever it was read; what is cut off reads as zeros. */
  readonly isWhole: boolean;
  /** A part of the contents, without copying. */
  bytes(offset: number, length: number): Uint8Array<ArrayBuffer>;
}

/** Of weights with this identity (`Weights.identity`) and these specs. */
export async function regionKey(
  identity: string,
  specs: readonly WeightSpec[],
): Promise<Uint8Array> {
  const layout = specs.map(({ datatype, shape }) => [datatype, shape]);
  const text = JSON.stringify([LAYOUT_VERSION, identity, layout]);
  return await sha256(new TextEncoder().encode(text));
}

/** The object's name, with its leading slash. */
export function regionName(key: Uint8Array): string {
  return `/${PREFIX}${key.slice(0, 16).toHex()}`;
}

/**
 * Maps the region of a key, filling it first where that has not been done; waits while another process
 * does.
 * @throws what `claim` and `fill` throw
 * @throws {SystemCallError} when there is no room for it (`ENOSPC`), it may not be opened or users may
 *   write to it whom its mode is to keep out (`EACCES`), or another process does not finish it (`EAGAIN`)
 */
export async function acquireRegion(request: RegionRequest): Promise<SharedRegion> {
  const name = regionName(request.key);
  const patienceMs = request.patienceMs ??
    PATIENCE_MILLISECONDS + request.byteLength * PATIENCE_MILLISECONDS_PER_BYTE;
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    using opened = new DisposableStack();
    const object = openOrCreate(name, request.mode);
    if (object) {
      opened.use(object);
      const taken = await take(object, request);
      if (taken !== "again") {
        opened.move();
        return taken;
      }
    }
    if (performance.now() >= untilMs) throw new SystemCallError("flock", EAGAIN, "EAGAIN", name);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

/** What `sweepRegions` did. */
export interface Sweep {
  readonly removed: number;
  readonly removedBytes: number;
}

/**
 * Removes regions that nobody has and nobody will want: unfinished ones, and those whose weights file is
 * gone or is another one now. A complete one whose file is still there is left for the next start.
 */
export async function sweepRegions(): Promise<Sweep> {
  let [removed, removedBytes] = [0, 0];
  for await (const { name, isFile } of Deno.readDir(SHARED_OBJECT_FOLDER)) {
    if (!isFile || !name.startsWith(PREFIX)) continue;
    try {
      using object = SharedObject.open(`/${name}`);
      if (!object.tryLock({ isShared: false }) || !object.isLinked()) continue;
      const source = headerOf(object)?.source;
      if (source && weightFileIdentity(source.path) === source.identity) continue;
      removedBytes += object.byteLength;
      unlinkSharedMemory(object.name);
      removed++;
    } catch (error) {
      // Another worker was faster, or it belongs to a user who does not share.
      if (!(error instanceof SystemCallError)) throw error;
    }
  }
  return { removed, removedBytes };
}

/** `undefined` when somebody else made or removed it in between. */
function openOrCreate(name: string, mode: number): SharedObject | undefined {
  try {
    return SharedObject.open(name);
  } catch (error) {
    if (!isCode(error, "ENOENT")) throw error;
  }
  try {
    return SharedObject.create(name, mode | 0o600);
  } catch (error) {
    if (isCode(error, "EEXIST")) return undefined;
    throw error;
  }
}

/** Maps an open region, as its writer or as one of its readers. */
async function take(
  object: SharedObject,
  request: RegionRequest,
): Promise<SharedRegion | "again"> {
  let isReused = true;
  if (object.tryLock({ isShared: false })) {
    // Nobody has it. It may be new, left behind, or just removed by whoever had it last.
    const info = object.linked();
    if (!info) return "again";
    if (!isOfTrusted(info, request.mode)) {
      const fields = { region: object.name, model: request.source.model, owner: info.uid };
      request.logger.warn("shared weights that others could have written are not used", fields);
      unlinkSharedMemory(object.name);
      return "again";
    }
    if (object.byteLength > 0 && !await isIntact(object, request)) {
      unlinkSharedMemory(object.name);
      return "again";
    }
    if (object.byteLength === 0) {
      if (!await fill(object, request)) return "again";
      isReused = false;
    }
    // Not one step: between the two it may be removed, which the next look shows.
    if (!object.tryLock({ isShared: true })) return "again";
  } else {
    const info = object.linked();
    if (info && !isOfTrusted(info, request.mode)) {
      throw new SystemCallError("shm_open", EACCES, "EACCES", JSON.stringify(object.name));
    }
    if (!object.tryLock({ isShared: true })) return "again";
  }
  if (!object.isLinked() || !isComplete(object, request)) return "again";
  return attach(object, request, isReused);
}

/**
 * Whether only those can have written to an object whom its mode is to let. Names can be guessed: whoever
 * makes a region first, for others to find, could choose what they compute.
 */
function isOfTrusted({ uid, gid, mode: given }: Deno.FileInfo, mode: number): boolean {
  const [everyone, group] = [0o002, 0o020];
  if (mode & everyone) return true;
  if (((given ?? 0) & ~mode & (everyone | group)) !== 0) return false;
  const self = Deno.uid();
  if (uid === self || uid === 0) return true;
  // The group let us in, if we are not the one user whom everything lets in.
  return (mode & group) !== 0 && (self !== 0 || gid === Deno.gid());
}

/** `false`: somebody has cut the region short meanwhile, and it is gone. */
async function fill(object: SharedObject, request: RegionRequest): Promise<boolean> {
  const { key, byteLength, source, logger } = request;
  try {
    using _room = await request.claim?.();
    await object.reserve(HEADER_BYTES + byteLength);
    using mapping = mapGuarded(object, HEADER_BYTES + byteLength, true);
    await request.fill(mapping, HEADER_BYTES);
    const contents = await digestOf(mapping.bytes(HEADER_BYTES, byteLength));
    if (!mapping.isTorn) {
      writeHeader(mapping.bytes(0, HEADER_BYTES), { key, byteLength, contents, source });
    }
    if (!mapping.isTorn && object.byteLength === HEADER_BYTES + byteLength) return true;
    const fields = { region: object.name, model: source.model };
    logger.warn("shared weights that were cut short are written anew", fields);
    unlinkSharedMemory(object.name);
    return false;
  } catch (error) {
    unlinkSharedMemory(object.name);
    throw error;
  }
}

function attach(object: SharedObject, request: RegionRequest, isReused: boolean): SharedRegion {
  const mapping = mapGuarded(object, HEADER_BYTES + request.byteLength, false);
  let isAttached = true;
  return {
    name: object.name,
    isReused,
    get isWhole() {
      return !mapping.isTorn && object.byteLength >= HEADER_BYTES + request.byteLength;
    },
    bytes: (offset, length) => mapping.bytes(HEADER_BYTES + offset, length),
    [Symbol.dispose]: () => {
      if (!isAttached) return;
      isAttached = false;
      mapping[Symbol.dispose]();
      try {
        // Whoever gets this was the last.
        const isLast = object.tryLock({ isShared: false });
        if (isLast && object.isLinked()) unlinkSharedMemory(object.name);
      } catch (error) {
        const fields = { region: object.name, error };
        request.logger.warn("shared weights could not be removed", fields);
      }
      object[Symbol.dispose]();
    },
  };
}

function isComplete(object: SharedObject, { key, byteLength }: RegionRequest): boolean {
  const header = headerOf(object);
  return header !== undefined && header.byteLength === byteLength &&
    object.byteLength === HEADER_BYTES + byteLength && isEqual(header.key, key);
}

/** Whether what earlier processes left is complete and still what they wrote. */
async function isIntact(object: SharedObject, request: RegionRequest): Promise<boolean> {
  const { logger, byteLength, source } = request;
  const fields = { region: object.name, model: source.model };
  if (!isComplete(object, request)) {
    logger.warn("shared weights that were never finished are written anew", fields);
    return false;
  }
  using mapping = mapGuarded(object, HEADER_BYTES + byteLength, false);
  const contents = readHeader(mapping.bytes(0, HEADER_BYTES))?.contents;
  const found = await digestOf(mapping.bytes(HEADER_BYTES, byteLength));
  if (contents && isEqual(found, contents) && !mapping.isTorn) return true;
  logger.warn("shared weights that were damaged are written anew", fields);
  return false;
}

function headerOf(object: SharedObject): RegionHeader | undefined {
  if (object.byteLength < HEADER_BYTES) return undefined;
  using page = mapGuarded(object, HEADER_BYTES, false);
  return readHeader(page.bytes());
}

/**
 * Maps the first bytes of a region. Others may cut it short at any time: what is missing then reads as
 * zeros, and `isTorn` tells. Where mappings cannot be guarded it ends the process.
 */
function mapGuarded(object: SharedObject, byteLength: number, isWritable: boolean): Mapping {
  const mapping = object.map(byteLength, isWritable);
  mapping.guard();
  return mapping;
}

async function digestOf(bytes: Uint8Array): Promise<Uint8Array> {
  const digests: number[] = [];
  for (let at = 0; at < bytes.length; at += DIGEST_SLICE_BYTES) {
    digests.push(...await sha256(bytes.subarray(at, at + DIGEST_SLICE_BYTES)));
  }
  return await sha256(Uint8Array.from(digests));
}

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof SystemCallError && error.code === code;
}
