/** Sockets as byte streams that close as far as Deno lets them. */

import type { ByteStream } from "./types.ts";

/**
 * A `Deno.Conn` as a byte stream. In Deno 2.8 `close` neither wakes a read that is under way nor sends
 * the peer anything, and the descriptor stays until the peer acts (denoland/deno#35292). So our side is
 * ended first: any peer that is alive then ends its own, which ends the read and frees the descriptor.
 */
export class SocketStream implements ByteStream {
  readonly #conn: Deno.Conn;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
    // A peer that has vanished ends the read some day, through the kernel's own probes.
    if ("setKeepAlive" in conn) (conn as Deno.TcpConn).setKeepAlive(true);
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#conn.read(into);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#conn.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#conn.closeWrite();
  }

  close(): void {
    // Fails when our side was ended before, or the peer was faster: as good.
    this.#conn.closeWrite().catch(() => {});
    this.#conn.close();
  }
}
