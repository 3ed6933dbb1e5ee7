/** The folder where a running node keeps its node file and its socket. */

import { dirname } from "node:path";
import { ConfigError, messageOf, UnavailableError } from "../errors.ts";
import { exists } from "./node_source.ts";
import { startTime } from "./processes.ts";

/** Where children and health checks look first. */
export const STANDARD_FOLDER = "/run/reactantserver";
/** The node file in it. */
const MATERIALISED_FILE = "node.yaml";
/** How the names of private folders begin. */
export const PRIVATE_FOLDER_PREFIX = "reactantserver-";
/** The socket in a private folder. */
export const LINK_SOCKET = "link.sock";
/** What the kernel takes as the path of a socket, less the name of ours. */
const MAX_FOLDER_PATH = 90;

/** The folders of one running supervisor. Disposing removes what it made. */
export interface NodeFolder extends Disposable {
  /** Private, fresh, with a path short enough for a socket. */
  readonly privateFolder: string;
  /**
   * Writes the node file where health checks find it and returns its path. Into the private folder when
   * another running node's is there.
   *
   * @throws {UnavailableError} when it cannot be written anywhere
   */
  write(text: string): string;
  /** The file of another running node that was in the way; health checks find that one. */
  readonly taken: string | undefined;
  /**
   * Writes it again where it was, if it is there no more: cleaners of temporary files take what nobody has
   * read for some days, and a child that is started again reads it.
   */
  restore(): void;
}

/** Where the node file may be. */
export interface NodeFolderOptions {
  /** What comes first; default `STANDARD_FOLDER`. */
  readonly folder?: string | undefined;
  /** Where a user writes who may not write there; default: one below the folder of temporary files. */
  readonly userFolder?: string | undefined;
}

/** Makes the private folder. */
export function openNodeFolder(
  { folder = STANDARD_FOLDER, userFolder = defaultUserFolder() }: NodeFolderOptions = {},
): NodeFolder {
  const privateFolder = makePrivateFolder();
  let written: string | undefined;
  let content = "";
  let taken: string | undefined;
  return {
    privateFolder,
    get taken() {
      return taken;
    },
    write(text) {
      content = `${header()}\n${text}`;
      for (const place of [folder, userFolder]) {
        const path = `${place}/${MATERIALISED_FILE}`;
        try {
          Deno.mkdirSync(place, {
            recursive: true,
            ...(place === userFolder ? { mode: 0o700 } : {}),
          });
          if (place === userFolder && !isOurs(place)) continue;
          if (belongsToAnother(path)) {
            taken = path;
            break;
          }
          replaceFile(path, content);
          return written = path;
        } catch {
          // Not ours to write to, full, or on a file system that is only read: the next place is.
        }
      }
      written = `${privateFolder}/${MATERIALISED_FILE}`;
      try {
        replaceFile(written, content);
      } catch (error) {
        throw new UnavailableError(`Cannot write the node's file: ${messageOf(error)}`, {
          cause: error,
        });
      }
      return written;
    },
    restore() {
      if (written === undefined || exists(written)) return;
      Deno.mkdirSync(dirname(written), { recursive: true, mode: 0o700 });
      replaceFile(written, content);
    },
    [Symbol.dispose]() {
      // By its content: where process ids are of several namespaces, another's may be the same.
      if (written !== undefined && contentOf(written) === content) removeQuietly(written);
      removeQuietly(privateFolder);
      try {
        Deno.removeSync(userFolder);
      } catch {
        // It was never made, or another node of this user writes there.
      }
    },
  };
}

/** The node file that a supervisor has written where health checks look; the first of the places. */
export function findWrittenFile(
  { folder = STANDARD_FOLDER, userFolder = defaultUserFolder() }: NodeFolderOptions = {},
): string | undefined {
  const places = isOurs(userFolder) ? [folder, userFolder] : [folder];
  return places.map((place) => `${place}/${MATERIALISED_FILE}`).find(exists);
}

/** The same for every process of a user, so that a health check finds what the supervisor has written. */
function defaultUserFolder(): string {
  return `${Deno.env.get("TMPDIR") || "/tmp"}/reactantserver-run-${Deno.uid() ?? "user"}`;
}

/** In a folder that everybody can write, another user may have made ours before us. */
function isOurs(folder: string): boolean {
  try {
    const { isDirectory, uid, mode } = Deno.lstatSync(folder);
    return isDirectory && uid === Deno.uid() && ((mode ?? 0) & 0o022) === 0;
  } catch {
    return false;
  }
}

function makePrivateFolder(): string {
  try {
    const folder = Deno.makeTempDirSync({ prefix: PRIVATE_FOLDER_PREFIX });
    if (folder.length <= MAX_FOLDER_PATH) return folder;
    Deno.removeSync(folder);
    return Deno.makeTempDirSync({ dir: "/tmp", prefix: PRIVATE_FOLDER_PREFIX });
  } catch (error) {
    throw new ConfigError(
      `Cannot make a folder for the node's socket: ${messageOf(error)}; set TMPDIR to a folder ` +
        "that can be written",
      { cause: error },
    );
  }
}

const HEADER = /^# Written by reactantserver, process (\d+)(?: \(started at tick (\d+)\))?\./;

/** The start time tells a process from a later one of the same id: in a container every one is a low id. */
function header(): string {
  const start = startTime(Deno.pid);
  const tick = start === undefined ? "" : ` (started at tick ${start})`;
  return `# Written by reactantserver, process ${Deno.pid}${tick}. Do not edit: it is rewritten at ` +
    "every start.";
}

/** Whether a file was written by a supervisor that still runs, and is not this process. */
function belongsToAnother(path: string): boolean {
  const [, pid, tick] = HEADER.exec(contentOf(path) ?? "") ?? [];
  if (pid === undefined || Number(pid) === Deno.pid) return false;
  const start = startTime(Number(pid));
  return start !== undefined && (tick === undefined || tick === start);
}

function contentOf(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

/** Readers see the old content or the new, never a part. */
function replaceFile(path: string, content: string): void {
  const aside = `${path}.${Deno.pid}`;
  try {
    Deno.writeTextFileSync(aside, content);
    Deno.renameSync(aside, path);
  } catch (error) {
    removeQuietly(aside);
    throw error;
  }
}

function removeQuietly(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch {
    // Somebody was faster; it is gone either way.
  }
}
