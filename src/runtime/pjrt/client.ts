/**
 * A PJRT client with the one device it is used for: what programs, buffers and transfers share. Owns the
 * native client and counts everything made through it.
 */

import { setImmediate } from "node:timers";
import {
  type Address,
  type ArgsOf,
  copyString,
  copyWords,
  cString,
  newStructArray,
  PJRT_NamedValue,
  PJRT_NamedValue_Type,
  type PjrtApi,
  type PjrtPlugin,
} from "../../../ffi/mod.ts";
import { ConfigError, UnavailableError } from "../../errors.ts";
import { EventWaiter } from "./event_waiter.ts";
import { HandleTable } from "./handle.ts";
import { POLL_MILLISECONDS, type PollPolicy } from "./poll_policy.ts";

/** A value of a client create option; a plain number is an integer. */
export type CreateOption =
  | string
  | boolean
  | number
  | { readonly float: number }
  | readonly number[];

/** There are devices, but not as many: a mistake of the configuration, not a device that is lost. */
export class DeviceOrdinalError extends ConfigError {}

/** States: open, closing (no new work; what is in flight finishes), closed. */
export class PjrtClient {
  readonly plugin: PjrtPlugin;
  readonly api: PjrtApi;
  readonly handles: HandleTable;
  readonly address: Address<"PJRT_Client">;
  readonly device: Address<"PJRT_Device">;
  /** Global id of the device, as device assignments name it. */
  readonly deviceId: number;
  readonly platformName: string;
  readonly platformVersion: string;
  readonly deviceKind: string;

  /** Executions in progress, which the plugin bounds per device. */
  dispatches = 0;
  /** An `Execute` on its way to the device from another thread: the next one waits for it. */
  launching: Promise<unknown> | undefined;
  readonly #waiter: EventWaiter;
  /** Counted, not kept: what finished work has made must not outlive it in here. */
  #inFlight = 0;
  /** Called when nothing is in flight any more. */
  #idle: (() => void) | undefined;
  #isClosing = false;
  #closed: Promise<void> | undefined;

  // Reused by blocking calls only: they settle before anyone else can touch the struct.
  readonly #isReady: ArgsOf<"PJRT_Event_IsReady">;
  readonly #eventError: ArgsOf<"PJRT_Event_Error">;
  readonly #destroyEvent: ArgsOf<"PJRT_Event_Destroy">;
  readonly #destroyBuffer: ArgsOf<"PJRT_Buffer_Destroy">;

  private constructor(
    plugin: PjrtPlugin,
    address: Address<"PJRT_Client">,
    device: Address<"PJRT_Device">,
  ) {
    const { api } = plugin;
    this.plugin = plugin;
    this.api = api;
    this.handles = new HandleTable();
    this.handles.count("client", 1);
    this.address = address;
    this.device = device;
    this.#isReady = api.args("PJRT_Event_IsReady");
    this.#eventError = api.args("PJRT_Event_Error");
    this.#destroyEvent = api.args("PJRT_Event_Destroy");
    this.#destroyBuffer = api.args("PJRT_Buffer_Destroy");

    const name = api.call(
      "PJRT_Client_PlatformName",
      api.args("PJRT_Client_PlatformName").set("client", address),
    );
    this.platformName = copyString(name.get("platform_name"), name.get("platform_name_size"));
    this.#waiter = new EventWaiter(api, this.platformName === "cpu" ? "plugin" : "own");
    const version = api.call(
      "PJRT_Client_PlatformVersion",
      api.args("PJRT_Client_PlatformVersion").set("client", address),
    );
    this.platformVersion = copyString(
      version.get("platform_version"),
      version.get("platform_version_size"),
    );
    const description = api.call(
      "PJRT_Device_GetDescription",
      api.args("PJRT_Device_GetDescription").set("device", device),
    ).take("device_description");
    this.deviceId = api.call(
      "PJRT_DeviceDescription_Id",
      api.args("PJRT_DeviceDescription_Id").set("device_description", description),
    ).get("id");
    const kind = api.call(
      "PJRT_DeviceDescription_Kind",
      api.args("PJRT_DeviceDescription_Kind").set("device_description", description),
    );
    this.deviceKind = copyString(kind.get("device_kind"), kind.get("device_kind_size"));
  }

  /**
   * Creates the native client, off the event loop, and picks addressable device `deviceOrdinal`.
   * @throws {PjrtError} when the plugin cannot (no such GPU, driver too old, out of memory)
   * @throws {DeviceOrdinalError} when there are devices, but not that one
   * @throws {ConfigError} when there are none
   */
  static async create(
    plugin: PjrtPlugin,
    deviceOrdinal: number,
    options: Readonly<Record<string, CreateOption>>,
  ): Promise<PjrtClient> {
    const { api } = plugin;
    const args = api.args("PJRT_Client_Create");
    const named = encodeCreateOptions(options);
    if (named.count > 0) args.point("create_options", named).set("num_options", named.count);
    const address = (await api.callAsync("PJRT_Client_Create", args)).take("client");
    const devices = addressableDevices(api, address);
    const device = devices[deviceOrdinal];
    if (device === undefined) {
      await destroyClient(api, address);
      const name = JSON.stringify(plugin.path);
      if (devices.length === 0) throw new ConfigError(`PJRT plugin ${name} reports no device`);
      throw new DeviceOrdinalError(
        `device_ordinal ${deviceOrdinal} is out of range: PJRT plugin ${name} reports ` +
          `${devices.length} device(s); give one from 0 to ${devices.length - 1}`,
      );
    }
    return new PjrtClient(plugin, address, device);
  }

  /**
   * Runs work that uses the native client; closing waits for it.
   * @throws {UnavailableError} once closing has begun
   */
  track<T>(work: () => Promise<T>): Promise<T> {
    const promise = this.#start(work);
    this.#inFlight++;
    const ended = () => {
      if (--this.#inFlight === 0) this.#idle?.();
    };
    promise.then(ended, ended);
    return promise;
  }

  /** Async, so that what `work` throws before its first wait rejects too. */
  async #start<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isClosing) throw new UnavailableError("the device client is shutting down");
    return await work();
  }

  /** Whether an event has happened. A microsecond. */
  isReady(event: Address<"PJRT_Event">): boolean {
    return this.api.call("PJRT_Event_IsReady", this.#isReady.set("event", event)).get("is_ready");
  }

  /**
   * Waits for an event and frees it: without giving up this thread when it has happened already, or
   * happens while `polling` finds it worth looking.
   * @throws {PjrtError} with what the event reports
   */
  async settle(event: Address<"PJRT_Event">, polling?: PollPolicy): Promise<void> {
    try {
      if (!(this.isReady(event) || (polling?.next() && await this.#poll(event, polling)))) {
        await this.#waiter.wait(event);
      }
      this.eventError(event);
    } finally {
      this.destroyEvent(event);
    }
  }

  async #poll(event: Address<"PJRT_Event">, polling: PollPolicy): Promise<boolean> {
    const deadline = performance.now() + POLL_MILLISECONDS;
    let isReady = false;
    do {
      await nextTurn();
      isReady = this.isReady(event);
    } while (!isReady && performance.now() < deadline);
    polling.observe(isReady);
    return isReady;
  }

  /** Throws what a ready event reports, if anything. */
  eventError(event: Address<"PJRT_Event">): void {
    this.api.call("PJRT_Event_Error", this.#eventError.set("event", event));
  }

  /** Frees an event counted before. */
  destroyEvent(event: Address<"PJRT_Event">): void {
    this.handles.count("event", -1);
    this.api.call("PJRT_Event_Destroy", this.#destroyEvent.set("event", event));
  }

  /** Frees a buffer; its count is the caller's. */
  destroyBuffer(buffer: Address<"PJRT_Buffer">): void {
    this.api.call("PJRT_Buffer_Destroy", this.#destroyBuffer.set("buffer", buffer));
  }

  /**
   * Lets work in flight finish, frees every handle that is left, then the client. Leaving the process or
   * freeing the client with work in flight can crash it.
   */
  close(): Promise<void> {
    this.#isClosing = true;
    this.#closed ??= this.#drainAndDestroy();
    return this.#closed;
  }

  async #drainAndDestroy(): Promise<void> {
    while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle = resolve);
    this.handles.disposeAll();
    this.handles.count("client", -1);
    await destroyClient(this.api, this.address);
    this.#waiter[Symbol.dispose]();
  }
}

/** Lets the event loop do what is ready. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function destroyClient(api: PjrtApi, client: Address<"PJRT_Client">): Promise<void> {
  await api.callAsync("PJRT_Client_Destroy", api.args("PJRT_Client_Destroy").set("client", client));
}

function addressableDevices(
  api: PjrtApi,
  client: Address<"PJRT_Client">,
): readonly Address<"PJRT_Device">[] {
  const args = api.call(
    "PJRT_Client_AddressableDevices",
    api.args("PJRT_Client_AddressableDevices").set("client", client),
  );
  const words = copyWords(args.get("addressable_devices"), args.get("num_addressable_devices"));
  return Array.from(words) as Address<"PJRT_Device">[];
}

/** The options as an array of `PJRT_NamedValue`s, which keep what they point to alive. */
function encodeCreateOptions(options: Readonly<Record<string, CreateOption>>) {
  const entries = Object.entries(options);
  const array = newStructArray(PJRT_NamedValue, entries.length);
  entries.forEach(([name, option], index) => {
    const struct = array.structs[index]!;
    const nameBytes = cString(name);
    struct.point("name", nameBytes).set("name_size", nameBytes.length - 1).set("value_size", 1);
    if (typeof option === "string") {
      const text = cString(option);
      struct.set("type", PJRT_NamedValue_Type.kString);
      struct.point("value", text).set("value_size", text.length - 1);
    } else if (typeof option === "boolean") {
      struct.set("type", PJRT_NamedValue_Type.kBool).set("value", option ? 1n : 0n);
    } else if (typeof option === "number") {
      struct.set("type", PJRT_NamedValue_Type.kInt64).set("value", BigInt(option));
    } else if ("float" in option) {
      const bits = new Uint32Array(Float32Array.of(option.float).buffer)[0]!;
      struct.set("type", PJRT_NamedValue_Type.kFloat).set("value", BigInt(bits));
    } else {
      const list = BigInt64Array.from(option, BigInt);
      struct.set("type", PJRT_NamedValue_Type.kInt64List);
      struct.point("value", list).set("value_size", list.length);
    }
  });
  return array;
}
