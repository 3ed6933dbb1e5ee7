/** Files that list workers. */

import { parseHostPort } from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import type { Member } from "./fleet_worker.ts";

/** Thousands of workers. What is larger is some other file, or a device that never ends. */
const MAX_BYTES = 1 << 20;

/**
 * The text of such a file.
 *
 * @throws {ConfigError} when it is no regular file, which could keep a reader waiting, or too large
 * @throws {Error} when it cannot be read
 */
export async function readMemberFile(path: string): Promise<string> {
  // Before opening: opening a named pipe waits for its other end.
  const { isFile } = await Deno.stat(path);
  if (!isFile) throw new ConfigError(`${path} is not a regular file`);
  using file = await Deno.open(path);
  const bytes = new Uint8Array(MAX_BYTES + 1);
  let length = 0;
  while (length < bytes.length) {
    const count = await file.read(bytes.subarray(length));
    if (count === null) return new TextDecoder().decode(bytes.subarray(0, length));
    length += count;
  }
  throw new ConfigError(`${path} has more than ${MAX_BYTES} bytes; a list has a line per worker`);
}

/**
 * A file of workers: one per line, its gRPC address, then (both optional) the address of its metrics or
 * `-`, and its name. `#` begins a remark.
 *
 * @throws {ConfigError} naming the line; a file that is not right throughout is not used at all
 */
export function parseMemberFile(text: string, path: string): Member[] {
  const members: Member[] = [];
  text.split("\n").forEach((line, index) => {
    const [id, metrics = "-", name, ...more] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (id === undefined || id === "") return;
    const at = `${path}, line ${index + 1}`;
    if (!isAddress(id)) {
      throw new ConfigError(`${at}: ${JSON.stringify(id)} is no worker's address (host:port)`);
    }
    if (metrics !== "-" && !isAddress(metrics)) {
      throw new ConfigError(`${at}: ${JSON.stringify(metrics)} is no metrics address (host:port)`);
    }
    if (more.length > 0) {
      throw new ConfigError(`${at}: expected an address, a metrics address and a name, got more`);
    }
    const metricsEndpoint = metrics === "-" ? undefined : metrics;
    members.push({ id, name: name ?? id, metricsEndpoint });
  });
  return members;
}

function isAddress(text: string): boolean {
  return (parseHostPort(text)?.port ?? 0) > 0;
}
