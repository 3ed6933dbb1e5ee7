/**
 * HTTP to servers of one's own. A container is often given `HTTP_PROXY` for what is outside, and `fetch`
 * takes the proxy for everything that `NO_PROXY` does not name, this very machine included.
 */

/**
 * A client for requests to the server of a URL, which goes there directly whatever the proxy variables
 * say. To be closed by the caller.
 *
 * @throws {TypeError} when it is no URL
 */
export function directClient(
  url: string,
  options: Deno.CreateHttpClientOptions = {},
): Deno.HttpClient {
  const { protocol, hostname, port } = new URL(url);
  return Deno.createHttpClient({
    ...options,
    proxy: {
      transport: "tcp",
      hostname,
      port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
    },
  });
}
