/**
 * A headless Chromium for tests, driven over the DevTools protocol. Debian's package `chromium` has it;
 * `findBrowser` tells whether this machine does.
 */

import { TextLineStream } from "./lines.ts";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const START_MS = 120_000;

/** A page that is open; disposing it ends the browser. */
export interface BrowserPage extends AsyncDisposable {
  /** What the page said on its console, violations of its policy included. */
  readonly complaints: readonly string[];
  /** The value of an expression in the page, which JSON can hold. */
  evaluate<T>(expression: string): Promise<T>;
  /** Waits until an expression is true; fails with what another one gives. */
  until(expression: string, otherwise: string): Promise<void>;
  /** Another size, in CSS pixels, and colour scheme. */
  present(size: { width: number; height: number; scheme: "light" | "dark" }): Promise<void>;
  /** A picture of the whole page, PNG. */
  screenshot(): Promise<Uint8Array>;
}

/** The browser's executable; `undefined` where there is none. */
export async function findBrowser(): Promise<string | undefined> {
  for (const name of NAMES) {
    try {
      const { success } = await new Deno.Command(name, { args: ["--version"], stderr: "null" })
        .output();
      if (success) return name;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return undefined;
}

/** Opens an address in a browser of its own. */
export async function openPage(browser: string, url: string): Promise<BrowserPage> {
  const profile = await Deno.makeTempDir({ prefix: "browser-" });
  const child = new Deno.Command(browser, {
    args: [
      ...["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--mute-audio"],
      // Its sandbox needs rights that containers do not give; the only page it sees is ours.
      ...["--no-sandbox", "--disable-dev-shm-usage", "--remote-debugging-port=0"],
      ...[`--user-data-dir=${profile}`, "about:blank"],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const address = Promise.withResolvers<string>();
  const reading = (async () => {
    const text = child.stderr.pipeThrough(new TextDecoderStream());
    for await (const line of text.pipeThrough(new TextLineStream())) {
      lines.push(line);
      const match = /^DevTools listening on (ws:\S+)/.exec(line);
      if (match) address.resolve(match[1]!);
    }
    address.reject(new Error(`${browser} did not start:\n${lines.join("\n")}`));
  })();
  const end = async () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended on its own.
    }
    await child.status;
    await reading;
    // Its helpers may still write for a moment.
    for (let attempt = 0;; attempt++) {
      try {
        return await Deno.remove(profile, { recursive: true });
      } catch (error) {
        if (attempt === 50) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  };
  address.promise.catch(() => {});
  const timer = setTimeout(
    () => address.reject(new Error(`${browser} says no address`)),
    START_MS,
  );
  try {
    const connection = await Connection.open(await address.promise);
    return await attach(connection, url, end);
  } catch (error) {
    await end();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function attach(
  connection: Connection,
  url: string,
  end: () => Promise<void>,
): Promise<BrowserPage> {
  const { targetId } = await connection.send("Target.createTarget", { url: "about:blank" });
  const attached = await connection.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method: string, params: object = {}) =>
    connection.send(method, params, String(attached.sessionId));
  const complaints: string[] = [];
  connection.onEvent = (method, params) => {
    if (method === "Log.entryAdded") complaints.push(String(params.entry.text));
    if (method === "Runtime.exceptionThrown") {
      complaints.push(JSON.stringify(params.exceptionDetails).slice(0, 500));
    }
    if (method === "Runtime.consoleAPICalled") complaints.push(JSON.stringify(params.args));
  };
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  await send("Page.navigate", { url });
  const evaluate = async <T>(expression: string): Promise<T> => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value as T;
  };
  return {
    complaints,
    evaluate,
    async until(expression, otherwise) {
      const giveUpMs = performance.now() + START_MS;
      while (!await evaluate<boolean>(`Boolean(${expression})`)) {
        if (performance.now() > giveUpMs) {
          throw new Error(`never ${expression}: ${await evaluate(otherwise)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    async present({ width, height, scheme }) {
      await send("Emulation.setDeviceMetricsOverride", {
        ...{ width, height, deviceScaleFactor: 1, mobile: width < 600 },
      });
      await send("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: scheme }],
      });
    },
    async screenshot() {
      const { data } = await send("Page.captureScreenshot", {
        ...{ format: "png", captureBeyondViewport: true },
      });
      return Uint8Array.fromBase64(data);
    },
    async [Symbol.asyncDispose]() {
      await connection.close();
      await end();
    },
  };
}

// deno-lint-ignore no-explicit-any -- the protocol's answers are as its documentation says
type Answer = any;

/** One WebSocket to the browser: numbered questions, and events. */
class Connection {
  onEvent: (method: string, params: Answer) => void = () => {};
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  #count = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const { id, result, error, method, params } = JSON.parse(data);
      if (id === undefined) return this.onEvent(method, params);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(JSON.stringify(error)));
      else waiting?.resolve(result);
    };
  }

  static async open(address: string): Promise<Connection> {
    const socket = new WebSocket(address);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error(`no connection to ${address}`));
    });
    return new Connection(socket);
  }

  send(method: string, params: object, sessionId?: string): Promise<Answer> {
    const id = ++this.#count;
    const waiting = Promise.withResolvers<Answer>();
    this.#waiting.set(id, waiting);
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    return waiting.promise;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.onclose = resolve);
    this.#socket.close();
    await closed;
  }
}
