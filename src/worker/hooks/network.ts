/**
 * `fetch` and `WebSocket` for hooks whose operator granted hosts. Deno's own would, at a terminal, ask the
 * person there about every host that was not granted, also one that a redirect leads to; these refuse it.
 * And Deno's own go on with the hook from the event loop, where no time limit reaches it; with these all
 * that follows an answer or an event runs in the guard.
 */

import type { Guard } from "./guard.ts";

/** What the wrapped functions need of the realm. */
export interface NetworkOptions {
  readonly guard: Guard;
  /** Refuses a host, `name:port`, that was not granted. @throws {Deno.errors.NotCapable} */
  readonly requireHost: (host: string) => void;
}

/** As in the Fetch standard, section 4.4. */
const MAX_REDIRECTS = 20;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "http:": 80,
  "https:": 443,
  "ws:": 80,
  "wss:": 443,
};
/** Not sent on to another origin. */
const CREDENTIALS = ["authorization", "cookie", "proxy-authorization"];

/** Must be made before the realm is sealed. */
export function makeNetwork({ guard, requireHost }: NetworkOptions) {
  const settle = <T>(promise: Promise<T>): Promise<T> => guarded(guard, promise);
  const requireUrl = (url: URL, schemes: readonly string[]): void => {
    if (!schemes.includes(url.protocol)) {
      throw new TypeError(
        `hooks may reach ${schemes.join(" and ")} addresses, got ${url.protocol}`,
      );
    }
    requireHost(`${url.hostname}:${url.port || DEFAULT_PORTS[url.protocol]}`);
  };
  const guardedFetch = makeFetch((url) => requireUrl(url, ["http:", "https:"]));
  return {
    fetch: (input: RequestInfo | URL, init?: RequestInit) => settle(guardedFetch(input, init)),
    WebSocket: makeWebSocket(guard, (url) => requireUrl(url, ["ws:", "wss:"])),
  };
}

/** The same promise, whose settling, and so what waits for it, happens in the guard. */
export function guarded<T>(guard: Guard, promise: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) =>
    void promise.then(
      (value) => guard.schedule(() => resolve(value)),
      (error) => guard.schedule(() => reject(error)),
    )
  );
}

/** Follows redirects itself, to look at each place; answers are read whole before they are handed out. */
function makeFetch(requireUrl: (url: URL) => void) {
  const { fetch, Request, Response, Headers, URL, TypeError } = globalThis;
  return async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    let request = new Request(input, init);
    const { redirect } = request;
    // Read first, because a redirect may need it again.
    let body: ArrayBuffer | undefined = request.body ? await request.arrayBuffer() : undefined;
    for (let hops = 0;; hops++) {
      const url = new URL(request.url);
      requireUrl(url);
      const { method, headers, signal } = request;
      const answer = await fetch(url, { method, headers, body, signal, redirect: "manual" });
      const location = REDIRECTS.has(answer.status) ? answer.headers.get("location") : null;
      if (location === null || redirect === "manual") {
        const bytes = await answer.arrayBuffer();
        const whole = new Response(NO_BODY.has(answer.status) ? null : bytes, answer);
        Object.defineProperty(whole, "url", { value: request.url });
        Object.defineProperty(whole, "redirected", { value: hops > 0 });
        return whole;
      }
      await answer.body?.cancel();
      if (redirect === "error") throw new TypeError("fetch: the answer is a redirect");
      if (hops === MAX_REDIRECTS) {
        throw new TypeError(`fetch: more than ${MAX_REDIRECTS} redirects`);
      }
      const next = new URL(location, url);
      const kept = new Headers(headers);
      if (next.origin !== url.origin) CREDENTIALS.forEach((name) => kept.delete(name));
      const isReduced = answer.status === 303 && method !== "HEAD" ||
        (answer.status === 301 || answer.status === 302) && method === "POST";
      if (isReduced) {
        body = undefined;
        for (const name of ["content-type", "content-length", "content-encoding"]) {
          kept.delete(name);
        }
      }
      request = new Request(next, { method: isReduced ? "GET" : method, headers: kept, signal });
    }
  };
}

/** Statuses whose answers have no body. */
const NO_BODY: ReadonlySet<number> = new Set([101, 204, 205, 304]);

const SOCKET_EVENTS = ["open", "message", "error", "close"] as const;

/** The standard's interface before a socket of Deno's, whose events reach the hook in the guard. */
function makeWebSocket(guard: Guard, requireUrl: (url: URL) => void) {
  const Socket = globalThis.WebSocket;
  const { URL, Event, MessageEvent, CloseEvent, EventTarget } = globalThis;
  const copies: Record<string, (event: Event) => Event> = {
    message: (event) => {
      const { data, origin } = event as MessageEvent;
      return new MessageEvent("message", { data, origin });
    },
    close: (event) => {
      const { wasClean, code, reason } = event as CloseEvent;
      return new CloseEvent("close", { wasClean, code, reason });
    },
  };
  return class WebSocket extends EventTarget {
    static readonly CONNECTING = 0;
    static readonly OPEN = 1;
    static readonly CLOSING = 2;
    static readonly CLOSED = 3;
    readonly CONNECTING = 0;
    readonly OPEN = 1;
    readonly CLOSING = 2;
    readonly CLOSED = 3;
    onopen: ((event: Event) => void) | null = null;
    onmessage: ((event: Event) => void) | null = null;
    onerror: ((event: Event) => void) | null = null;
    onclose: ((event: Event) => void) | null = null;
    readonly #socket: globalThis.WebSocket;

    constructor(address: string | URL, protocols?: string | string[]) {
      super();
      const url = new URL(address);
      if (url.protocol === "http:" || url.protocol === "https:") {
        url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
      }
      requireUrl(url);
      const socket = this.#socket = new Socket(url, protocols);
      for (const type of SOCKET_EVENTS) {
        socket.addEventListener(type, (event) => {
          const copy = copies[type]?.(event) ?? new Event(type);
          guard.schedule(() => {
            this[`on${type}`]?.(copy);
            this.dispatchEvent(copy);
          });
        });
      }
    }

    get url(): string {
      return this.#socket.url;
    }
    get readyState(): number {
      return this.#socket.readyState;
    }
    get protocol(): string {
      return this.#socket.protocol;
    }
    get bufferedAmount(): number {
      return this.#socket.bufferedAmount;
    }
    get binaryType(): BinaryType {
      return this.#socket.binaryType;
    }
    set binaryType(value: BinaryType) {
      this.#socket.binaryType = value;
    }
    send(data: string | ArrayBufferLike | Blob | ArrayBufferView<ArrayBuffer>): void {
      this.#socket.send(data);
    }
    close(code?: number, reason?: string): void {
      this.#socket.close(code, reason);
    }
  };
}
