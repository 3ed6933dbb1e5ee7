/** What one request reads from and writes to shared-memory regions, and holds until it is done. */

import { InternalError, InvalidArgumentError } from "../errors.ts";
import type { SharedMemoryReference, SharedMemoryRegions } from "../protocol/mod.ts";
import {
  ALIGNED_FROM_BYTES,
  alignedBytes,
  type Datatype,
  DEVICE_ALIGNMENT,
  type MemoryPool,
} from "../tensor/mod.ts";
import type { ClientRegion } from "./client_region.ts";

/**
 * What may be computed on where it lies, although the client can change it meanwhile. Not integers and
 * booleans: a program may use them as indices, and a compiler may read a value twice that it takes for
 * constant, once to check it and once to use it. Not BYTES, whose lengths are checked before use. Sorts,
 * top-k, gathers, scatters and loops over indices made of such numbers ran thousands of times on XLA's CPU
 * client on memory that another process kept filling with anything, NaN included, without harm.
 */
const IN_PLACE: ReadonlySet<Datatype> = new Set(["FP16", "BF16", "FP32", "FP64"]);

/** As aligned as the memory that results come in otherwise. */
const TARGET_ALIGNMENT = 16;

/** A range in use, in a region that is held. */
interface Span {
  readonly region: ClientRegion;
  readonly range: SharedMemoryReference;
  /** The tensor, for messages. */
  readonly what: string;
}

/** Where an output is to be written. */
interface Place extends Span {
  readonly output: string;
}

/** The same for many requests: most have nothing to do with regions, and are not to pay for them. */
export interface RegionUseOptions {
  readonly isDirect: boolean;
  /** For what is read into memory of our own. */
  readonly copies: MemoryPool;
  /** @throws {FailedPreconditionError | InvalidArgumentError} when there is no such region or range */
  readonly find: (reference: SharedMemoryReference, what: string) => ClientRegion;
}

/** States: in use, released. Nothing that `read` or `targets` gave may be used after `release`. */
export class RegionUse implements SharedMemoryRegions {
  readonly #options: RegionUseOptions;
  readonly #held: ClientRegion[] = [];
  readonly #copied: Uint8Array<ArrayBuffer>[] = [];
  /** Inputs that are read where they lie. */
  readonly #inputs: Span[] = [];
  readonly #places: Place[] = [];
  #targets: Map<string, Uint8Array<ArrayBuffer>> | undefined;

  constructor(options: RegionUseOptions) {
    this.#options = options;
  }

  /**
   * An input: the client's memory itself where that may be computed on, else a copy.
   * @throws {FailedPreconditionError | InvalidArgumentError}
   */
  read(
    reference: SharedMemoryReference,
    what: string,
    datatype: Datatype,
  ): Uint8Array<ArrayBuffer> {
    const { isDirect, copies } = this.#options;
    const region = this.#hold(reference, what);
    if (isDirect && IN_PLACE.has(datatype) && mayGoInPlace(region, reference)) {
      region.check(reference, what);
      this.#inputs.push({ region, range: reference, what });
      return region.view(reference);
    }
    const { offset, byteSize } = reference;
    const data = isDirect ? copies.take(byteSize) : alignedBytes(byteSize);
    if (isDirect) this.#copied.push(data);
    region.read(offset, data, what);
    return data;
  }

  /**
   * Announces where an output is to be written.
   * @param bytes how many it takes; `undefined`: not known yet
   * @throws {FailedPreconditionError | InvalidArgumentError} also when it cannot fit
   */
  place(output: string, reference: SharedMemoryReference, what: string, bytes?: number): void {
    if (bytes !== undefined) checkRoom(reference, bytes, what);
    const region = this.#hold(reference, what);
    region.check(reference, what);
    this.#places.push({ region, range: reference, what, output });
  }

  /**
   * The clients' memory for the outputs that a device may write as they are, by name; each has all the room
   * there is, which may be more than the output takes. Called once, after the inputs and places are known.
   * @param isOnce whether the request wants this output in one place only
   */
  targets(isOnce: (output: string) => boolean): ReadonlyMap<string, Uint8Array> | undefined {
    if (!this.#options.isDirect || this.#places.length === 0) return undefined;
    const targets = new Map<string, Uint8Array<ArrayBuffer>>();
    for (const place of this.#places) {
      const { region, range, output } = place;
      if (!region.isMapped || region.positionOf(range) % TARGET_ALIGNMENT !== 0) continue;
      if (!isOnce(output) || this.#isContested(place)) continue;
      targets.set(output, region.view(range));
    }
    this.#targets = targets;
    return targets;
  }

  /**
   * Whether the inputs were there while they were computed on. Called when the device is done with them.
   * @throws {InvalidArgumentError | ResourceExhaustedError}
   */
  verifyInputs(): void {
    for (const { region, range, what } of this.#inputs) region.verify(range, what);
  }

  /**
   * Brings a result to its place, unless the device has written it there.
   * @param reference as given to `place`
   * @throws {InvalidArgumentError} when it does not fit
   * @throws {InvalidArgumentError | ResourceExhaustedError} when the memory was not there
   */
  write(reference: SharedMemoryReference, data: Uint8Array): void {
    const place = this.#places.find(({ range }) => range === reference);
    if (!place) throw new InternalError("an output has no place");
    const { region, what, output } = place;
    checkRoom(reference, data.length, what);
    const target = this.#targets?.get(output);
    if (target && target.buffer === data.buffer && target.byteOffset === data.byteOffset) {
      region.verify({ offset: reference.offset, byteSize: data.length }, what);
    } else region.write(reference.offset, data, what);
  }

  /** Lets go of everything; nobody may have any of it any more, not even a view. */
  release(): void {
    for (const data of this.#copied) this.#options.copies.giveBack(data);
    this.#copied.length = 0;
    for (const region of this.#held) region.letGo();
    this.#held.length = 0;
  }

  #hold(reference: SharedMemoryReference, what: string): ClientRegion {
    const region = this.#options.find(reference, what);
    if (this.#held.includes(region)) return region;
    region.hold();
    this.#held.push(region);
    return region;
  }

  /** Whether something else of this request lies there too: then the order matters in which it is touched. */
  #isContested(place: Place): boolean {
    const meets = ({ region, range }: Span) => place.region.overlaps(place.range, region, range);
    return this.#inputs.some(meets) || this.#places.some((each) => each !== place && meets(each));
  }
}

/** A device that computes in host memory would copy a large input from any other address once more. */
function mayGoInPlace(region: ClientRegion, range: SharedMemoryReference): boolean {
  return region.isMapped && (range.byteSize < ALIGNED_FROM_BYTES ||
    region.positionOf(range) % DEVICE_ALIGNMENT === 0);
}

function checkRoom({ byteSize }: SharedMemoryReference, bytes: number, what: string): void {
  if (bytes <= byteSize) return;
  throw new InvalidArgumentError(
    `${what} has ${bytes} bytes; its shared-memory slot holds ${byteSize}`,
  );
}
