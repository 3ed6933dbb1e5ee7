/** The files of the page at `/`, which show a node live in a browser. */

import { type AssetName, readAsset } from "../standalone.ts";

const FILES: Readonly<Record<string, readonly [asset: AssetName, contentType: string]>> = {
  "/": ["src/metrics/page/index.html", "text/html; charset=utf-8"],
  "/page.css": ["src/metrics/page/page.css", "text/css; charset=utf-8"],
  "/page.js": ["src/metrics/page/page.js", "text/javascript; charset=utf-8"],
};

/** Nothing but the files themselves, from here; the icon is an empty `data:` address. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Texts read so far. */
const texts = new Map<string, string>();

/**
 * The answer for a path of the page; `undefined` for any other.
 * @throws {Deno.errors.NotFound} when the program was packaged without the file
 */
export function pageFile(path: string): Response | undefined {
  const file = Object.hasOwn(FILES, path) ? FILES[path] : undefined;
  if (file === undefined) return undefined;
  const [asset, contentType] = file;
  let text = texts.get(path);
  if (text === undefined) texts.set(path, text = readAsset(asset));
  return new Response(text, {
    headers: {
      "content-type": contentType,
      "content-security-policy": CONTENT_SECURITY_POLICY,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      // A newer version of the program may answer the next time.
      "cache-control": "no-cache",
    },
  });
}
