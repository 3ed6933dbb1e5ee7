/**
 * What killed nodes leave behind. A supervisor removes its private folder, and its guard does when it cannot;
 * where both were killed, as with a whole control group at once, the next node does.
 */

import { LINK_SOCKET, PRIVATE_FOLDER_PREFIX } from "./node_folder.ts";

/** A younger one may be a node's that is just about to listen. */
const MIN_AGE_MS = 60_000;

/**
 * Removes the private folders of nodes that are gone from a folder of temporary files: those of this user
 * with a socket that is older than a minute and that nobody listens on. Never throws. Resolves with their
 * names.
 */
export async function removeAbandoned(temporary: string): Promise<string[]> {
  const removed: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(temporary)) {
      if (!isDirectory || !name.startsWith(PRIVATE_FOLDER_PREFIX)) continue;
      const folder = `${temporary}/${name}`;
      if (!await isAbandoned(folder)) continue;
      await Deno.remove(folder, { recursive: true });
      removed.push(name);
    }
  } catch {
    // A folder that cannot be listed or emptied holds up nobody's start.
  }
  return removed;
}

async function isAbandoned(folder: string): Promise<boolean> {
  try {
    const path = `${folder}/${LINK_SOCKET}`;
    const { uid, isSocket, mtime } = await Deno.lstat(path);
    if (uid !== Deno.uid() || !isSocket || mtime === null) return false;
    if (Date.now() - mtime.getTime() < MIN_AGE_MS) return false;
    using _connection = await Deno.connect({ transport: "unix", path });
    return false;
  } catch (error) {
    return error instanceof Deno.errors.ConnectionRefused;
  }
}
