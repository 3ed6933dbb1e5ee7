/** The HTTP listener for people, probes and Prometheus: a page, metrics, liveness and readiness. */

import { ConfigError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { pause } from "../pause.ts";
import { buildInfo } from "../standalone.ts";
import { pageFile } from "./page_files.ts";
import { METRICS_CONTENT_TYPE } from "./registry.ts";
import { sharedText } from "./shared_text.ts";

/** Whether the server can answer inference, and how far it is on the way there. */
export interface Readiness {
  readonly isReady: boolean;
  /** For example `2 of 5 models ready`; sent with a 503. */
  readonly progress: string;
}

export interface HttpEndpointOptions {
  readonly hostname: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** The exposition of `/metrics`. */
  readonly metrics: () => Promise<string>;
  readonly readiness: () => Readiness;
  readonly logger: Logger;
  /** What the operator sets to have another port, for messages. */
  readonly portSetting?: string;
}

/** A running listener. */
export interface HttpEndpoint extends AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  /** Closes the listener and its connections at once; an answer in progress is cut. Idempotent. */
  close(): Promise<void>;
}

/** How long to wait before listening again, for want of descriptors for instance. */
const REOPEN_MS = 500;
/** How often at most the log says that nobody can connect. */
const WARNING_INTERVAL_MS = 60_000;

/**
 * Serves `/metrics`, `/healthz` (the process answers), `/readyz` (it can infer) and the page at `/` with what
 * it reads, `/status`, to any method; everything else is 404. A failure while answering is a 500 and a log line, never more.
 *
 * @throws {ConfigError} when the address cannot be bound
 */
export function serveHttp(given: HttpEndpointOptions): HttpEndpoint {
  const options = { ...given, metrics: sharedText(given.metrics) };
  const { hostname, port, logger } = options;
  const cut = new AbortController();
  const open = (port: number) =>
    Deno.serve({
      hostname,
      port,
      signal: cut.signal,
      onListen: () => {},
      onError: (error) => {
        logger.error("HTTP request failed", { error });
        return plain(500, "internal error");
      },
    }, (request) => answer(request, options));
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = open(port);
  } catch (error) {
    const reason = error instanceof Deno.errors.AddrInUse ? "it is in use" : messageOf(error);
    throw new ConfigError(
      `Cannot serve HTTP on ${hostname}:${port}: ${reason}; free the port or choose another with ` +
        (options.portSetting ?? "--metrics-port, or turn the listener off with --metrics-port 0"),
      { cause: error },
    );
  }
  const serving = keepServing(server, () => open(server.addr.port), cut.signal, logger);
  const close = () => {
    // Not `shutdown()`, which waits for as long as a client takes to read its answer.
    cut.abort();
    return serving;
  };
  return {
    hostname: server.addr.hostname,
    port: server.addr.port,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * Deno ends a server when accepting one connection fails, as it does in want of descriptors: listens
 * again then, on the same port. Resolves when the server has ended for the signal's sake.
 */
async function keepServing(
  server: Deno.HttpServer,
  open: () => Deno.HttpServer,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
  let warnedMs = -Infinity;
  for (let current: Deno.HttpServer | undefined = server; !signal.aborted;) {
    try {
      await current?.finished;
      if (current !== undefined) return;
      current = open();
    } catch (error) {
      current = undefined;
      if (performance.now() - warnedMs >= WARNING_INTERVAL_MS) {
        warnedMs = performance.now();
        logger.warn("HTTP connections cannot be accepted", { reason: messageOf(error) });
      }
      await pause(REOPEN_MS, signal);
    }
  }
}

async function answer(request: Request, options: HttpEndpointOptions): Promise<Response> {
  // Nobody sends a body here; one that comes must not stay unread on a kept-alive connection.
  await request.body?.cancel();
  // A client may write anything there, and in the header "Host" that becomes part of it.
  const url = URL.parse(request.url);
  const response = url === null
    ? plain(400, "the request's address or its header Host is malformed")
    : await respond(url.pathname, options);
  return request.method === "HEAD" ? new Response(null, response) : response;
}

async function respond(path: string, options: HttpEndpointOptions): Promise<Response> {
  switch (path) {
    case "/metrics":
      return new Response(await options.metrics(), {
        headers: { "content-type": METRICS_CONTENT_TYPE, "cache-control": "no-store" },
      });
    case "/healthz":
      return plain(200, "ok");
    case "/readyz": {
      const { isReady, progress } = options.readiness();
      return isReady ? plain(200, "ok") : plain(503, `not ready: ${progress}`);
    }
    case "/status":
      return status(options.readiness());
    default:
      return pageFile(path) ?? plain(404, "not found");
  }
}

/** What the page shows and no metric says. */
function status({ isReady, progress }: Readiness): Response {
  const { version, commit, kind } = build ??= buildInfo();
  return Response.json({ version, commit, kind, isReady, progress }, {
    headers: { "cache-control": "no-store" },
  });
}

/** Looked up when first asked for. */
let build: ReturnType<typeof buildInfo> | undefined;

function plain(status: number, text: string): Response {
  return new Response(text, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" },
  });
}
