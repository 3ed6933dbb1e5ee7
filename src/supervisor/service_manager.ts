/** Telling systemd how far the node is (`Type=notify`); see sd_notify(3). */

/** Sends states to the service manager; does nothing where there is none. */
export class ServiceManager implements Disposable {
  readonly #socket: Deno.DatagramConn | undefined;
  readonly #address: Deno.UnixAddr | undefined;
  readonly #watchdog: ReturnType<typeof setInterval> | undefined;

  /**
   * @param folder private to this process, for the socket that is sent from
   * @param get reads a variable: `NOTIFY_SOCKET`, `WATCHDOG_USEC`
   */
  constructor(folder: string, get: (name: string) => string | undefined) {
    const path = get("NOTIFY_SOCKET");
    // A leading @ is the abstract namespace.
    if (path === undefined || !/^[/@]/.test(path)) return;
    try {
      this.#socket = Deno.listenDatagram({
        transport: "unixpacket",
        path: `${folder}/notify.sock`,
      });
    } catch {
      // A Deno without datagram sockets (`--unstable-net`): the unit has to be Type=exec.
      return;
    }
    this.#address = { transport: "unixpacket", path: path.replace(/^@/, "\0") };
    const watchdogMs = Number(get("WATCHDOG_USEC")) / 1000;
    if (watchdogMs > 0) {
      this.#watchdog = setInterval(() => this.notify("WATCHDOG=1"), watchdogMs / 2);
    }
  }

  /** Sends one state, for example `READY=1`; several are separated by newlines. */
  notify(state: string): void {
    if (this.#socket === undefined || this.#address === undefined) return;
    this.#socket.send(new TextEncoder().encode(state), this.#address).catch(() => {
      // A manager that does not listen has nothing to be told.
    });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#watchdog);
    this.#socket?.close();
  }
}
