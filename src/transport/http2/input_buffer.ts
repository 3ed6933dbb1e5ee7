/**
 * The buffer a connection reads into. It is used again and again, unless the layer above keeps a view
 * of it: then the part already read stays untouched, and a new buffer follows when this one is full.
 */

const FIRST_BYTES = 16 * 1024;
/** Grown to when a peer keeps it full: fewer system calls for large transfers. */
const LARGEST_BYTES = 256 * 1024;
/** Reading into less than this is not worth a system call. */
const LEAST_ROOM_BYTES = 4 * 1024;

/** `bytes[start, end)` has been read and not yet parsed. */
export class InputBuffer {
  bytes: Uint8Array = new Uint8Array(FIRST_BYTES);
  start = 0;
  end = 0;
  /** A view of `bytes` before `start` has been given away. */
  isKept = false;
  #size = FIRST_BYTES;

  /** Where the next read goes. */
  room(): Uint8Array {
    if (this.start === this.end && !this.isKept) {
      this.start = this.end = 0;
      // Filled to the brim, perhaps with nothing left over: frames of DATA are passed on in pieces.
      if (this.bytes.length < this.#size) this.#move();
    }
    if (this.bytes.length - this.end < LEAST_ROOM_BYTES) this.#move();
    return this.bytes.subarray(this.end);
  }

  /** Notes that a read has put `count` bytes into the room. */
  filled(count: number): void {
    this.end += count;
    if (this.end === this.bytes.length && this.#size < LARGEST_BYTES) this.#size *= 2;
  }

  #move(): void {
    const pending = this.end - this.start;
    // A frame that has to be whole may be larger than the usual buffer; the reader bounds it.
    const size = Math.max(this.#size, 2 * pending + LEAST_ROOM_BYTES);
    if (this.isKept || this.bytes.length < size) {
      const next = new Uint8Array(size);
      next.set(this.bytes.subarray(this.start, this.end));
      this.bytes = next;
      this.isKept = false;
    } else {
      this.bytes.copyWithin(0, this.start, this.end);
    }
    this.start = 0;
    this.end = pending;
  }
}
