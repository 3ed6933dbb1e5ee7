/**
 * Waits for events. On the CPU without a thread of ours: the plugin's own thread reports the end to the
 * event loop. Waiting on another thread instead (`PJRT_Event_Await`) wakes that thread first, and on two
 * busy cores each such call held the event loop up for hundreds of microseconds: a third of its time
 * under load.
 *
 * The reporting thread stands still until the event loop has heard it. The CPU plugin has threads to
 * spare for that; a GPU plugin reports from the thread that serves its stream, so there waiting stays on
 * a thread of ours.
 */

import { type Address, brandAddress, type PjrtApi } from "../../../ffi/mod.ts";

const SIGNATURE = { parameters: ["pointer", "usize"], result: "void" } as const;

/** Who waits: the plugin's thread, which calls back, or one of ours. */
export type WaitingThread = "plugin" | "own";

/** One per client. While anything is waited for, the process stays. */
export class EventWaiter implements Disposable {
  readonly #api: PjrtApi;
  /** By id. Slots are used again: a `Map` would keep what was in it alive (`IdTable` says why). */
  readonly #waiting: ((() => void) | undefined)[] = [];
  readonly #freeIds: number[] = [];
  #callback: Deno.UnsafeCallback<typeof SIGNATURE> | undefined;
  readonly #thread: WaitingThread;

  constructor(api: PjrtApi, thread: WaitingThread) {
    this.#api = api;
    this.#thread = thread;
  }

  /**
   * Resolves when the event has happened; at once if it has already. The event must not be freed before.
   * @throws {PjrtError} when the plugin cannot tell, and perhaps what the event itself reports: ask it
   */
  async wait(event: Address<"PJRT_Event">): Promise<void> {
    if (this.#thread === "plugin") return await this.#callBack(event);
    const args = this.#api.args("PJRT_Event_Await").set("event", event);
    await this.#api.callAsync("PJRT_Event_Await", args);
  }

  #callBack(event: Address<"PJRT_Event">): Promise<void> {
    const callback = this.#callback ??= new Deno.UnsafeCallback(
      SIGNATURE,
      (error, id) => this.#happened(error, Number(id)),
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    const id = this.#freeIds.pop() ?? this.#waiting.length;
    const args = this.#api.args("PJRT_Event_OnReady")
      .set("event", event)
      .set("callback", BigInt(Deno.UnsafePointer.value(callback.pointer)))
      .set("user_arg", BigInt(id));
    this.#waiting[id] = resolve;
    callback.ref();
    try {
      this.#api.call("PJRT_Event_OnReady", args);
    } catch (error) {
      this.#free(id);
      callback.unref();
      throw error;
    }
    return promise;
  }

  #happened(error: Deno.PointerValue, id: number): void {
    if (error !== null) {
      // A copy for us; whoever waits asks the event itself.
      this.#api.destroyError(brandAddress<"PJRT_Error">(Deno.UnsafePointer.value(error)));
    }
    const resolve = this.#waiting[id]!;
    this.#free(id);
    this.#callback!.unref();
    resolve();
  }

  #free(id: number): void {
    this.#waiting[id] = undefined;
    this.#freeIds.push(id);
  }

  /** Nothing may be waited for any more. */
  [Symbol.dispose](): void {
    this.#callback?.close();
    this.#callback = undefined;
  }
}
