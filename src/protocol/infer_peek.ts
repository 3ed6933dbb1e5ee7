/**
 * What a gateway needs of a ModelInferRequest to route it, from the bytes that have arrived so far: no
 * tensor is touched, and the message goes on as it came.
 */

import { InvalidArgumentError } from "../errors.ts";
import { PACKED_SHAPE, readExtents, UNPACKED_EXTENT } from "./extents.ts";
import {
  type InferParameters,
  NO_PARAMETERS,
  readParameter,
  remainingBudgetMs,
} from "./parameters.ts";
import { TruncatedError, WireError, WireReader, WireType } from "./wire_reader.ts";

export interface InferPeek {
  /** Empty when it has not arrived or is not given. */
  readonly modelName: string;
  readonly id: string;
  /** What the caller has left, from the request's own parameter. */
  readonly remainingBudgetMs: number | undefined;
  /** Shape of the tensor asked about; `undefined` when it has not arrived or there is none. */
  readonly shape: readonly number[] | undefined;
  /** Whether more bytes would change nothing above. */
  readonly isComplete: boolean;
}

export interface PeekOptions {
  /** Input whose shape is wanted. */
  readonly tensor?: string;
  /** Whether `chunks` is the whole message: then what ends early is an error. */
  readonly isWhole: boolean;
}

const BYTES = WireType.bytes;

class Peek {
  modelName = "";
  id = "";
  parameters: InferParameters = NO_PARAMETERS;
  shape: number[] | undefined;
  readonly #tensor: string | undefined;

  constructor(tensor: string | undefined) {
    this.#tensor = tensor;
  }

  /**
   * Reads fields until more of them would change nothing, and says whether that point was reached
   * before the end. Serializers write fields by number, so nothing of interest follows the inputs.
   */
  read(reader: WireReader): boolean {
    while (!reader.isAtEnd) {
      const tag = reader.tag();
      const field = tag >>> 3;
      if (this.modelName !== "" && field > (this.#tensor === undefined ? 4 : 5)) return true;
      if (tag === (1 << 3 | BYTES)) this.modelName = reader.name();
      else if (tag === (3 << 3 | BYTES)) this.id = reader.string();
      else if (tag === (4 << 3 | BYTES)) this.parameters = readParameter(reader, this.parameters);
      else if (tag !== (5 << 3 | BYTES)) reader.skip(tag);
      else if (this.#readInput(reader)) return true;
    }
    return false;
  }

  /** Reads one input, of which only the beginning may be there; true: nothing more is wanted. */
  #readInput(reader: WireReader): boolean {
    const length = reader.claimedLength();
    const behind = reader.remaining - length;
    let name = "";
    const shape: number[] = [];
    while (reader.remaining > Math.max(behind, 0)) {
      const tag = reader.tag();
      if (tag === (1 << 3 | BYTES)) name = reader.name();
      else if (tag === PACKED_SHAPE || tag === UNPACKED_EXTENT) readExtents(reader, tag, shape);
      else {
        // The tensor's own values, which may be long, come behind its shape.
        if (tag >>> 3 > 3 && this.#isWanted(name)) {
          this.shape = shape;
          if (this.modelName !== "") return true;
        }
        reader.skip(tag);
      }
    }
    if (behind < 0) throw new TruncatedError();
    if (reader.remaining < behind) throw new WireError("a field runs past the end of its message");
    if (this.#isWanted(name)) this.shape = shape;
    return this.shape !== undefined && this.modelName !== "";
  }

  #isWanted(name: string): boolean {
    return this.#tensor !== undefined && name === this.#tensor && this.shape === undefined;
  }
}

/**
 * Looks at the first bytes of a ModelInferRequest.
 * @throws {InvalidArgumentError} when they cannot be the beginning of one, or `isWhole` and it ends
 * too early
 */
export function peekInferRequest(chunks: readonly Uint8Array[], options: PeekOptions): InferPeek {
  const peek = new Peek(options.tensor);
  let isComplete = false;
  try {
    isComplete = peek.read(WireReader.of(chunks)) || options.isWhole;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    if (options.isWhole || !(error instanceof TruncatedError)) {
      throw new InvalidArgumentError(`Malformed ModelInferRequest: ${error.message}`, {
        cause: error,
      });
    }
  }
  return {
    modelName: peek.modelName,
    id: peek.id,
    remainingBudgetMs: remainingBudgetMs(peek.parameters),
    shape: peek.shape,
    isComplete,
  };
}
