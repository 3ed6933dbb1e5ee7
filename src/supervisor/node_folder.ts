/** The folder where a running node keeps its node file and its socket. */

import { ConfigError, messageOf } from "../errors.ts";

/** Where children and health checks look first. */
export const STANDARD_FOLDER = "/run/reactantserver";
/** The node file in it. */
export const MATERIALISED_FILE = "node.yaml";
/** What the kernel takes as the path of a socket, less the name of ours. */
const MAX_FOLDER_PATH = 90;

/** The folders of one running supervisor. Disposing removes what it made. */
export interface NodeFolder extends Disposable {
  /** Private, fresh, with a path short enough for a socket. */
  readonly privateFolder: string;
  /**
   * Writes the node file where it is found, or into the private folder when that place is not writable
   * or another running node's, and returns its path.
   */
  write(text: string): string;
}

/** Makes the private folder. @param folder where the node file goes; default `STANDARD_FOLDER` */
export function openNodeFolder(folder: string = STANDARD_FOLDER): NodeFolder {
  const privateFolder = makePrivateFolder();
  let written: string | undefined;
  return {
    privateFolder,
    write(text) {
      const content = `${header(Deno.pid)}\n${text}`;
      const path = `${folder}/${MATERIALISED_FILE}`;
      try {
        Deno.mkdirSync(folder, { recursive: true });
        if (!belongsToAnother(path)) {
          replaceFile(path, content);
          return written = path;
        }
      } catch {
        // Not ours to write to, as for everyone but root: the private folder is.
      }
      const own = `${privateFolder}/${MATERIALISED_FILE}`;
      replaceFile(own, content);
      return own;
    },
    [Symbol.dispose]() {
      if (written !== undefined && !belongsToAnother(written)) removeQuietly(written);
      removeQuietly(privateFolder);
    },
  };
}

function makePrivateFolder(): string {
  try {
    const folder = Deno.makeTempDirSync({ prefix: "reactantserver-" });
    if (folder.length <= MAX_FOLDER_PATH) return folder;
    Deno.removeSync(folder);
    return Deno.makeTempDirSync({ dir: "/tmp", prefix: "reactantserver-" });
  } catch (error) {
    throw new ConfigError(
      `Cannot make a folder for the node's socket: ${messageOf(error)}; set TMPDIR to a folder ` +
        "that can be written",
      { cause: error },
    );
  }
}

const HEADER = /^# Written by reactantserver, process (\d+)\./;

function header(pid: number): string {
  return `# Written by reactantserver, process ${pid}. Do not edit: it is rewritten at every start.`;
}

/** Whether a file was written by a supervisor that still runs, and is not this process. */
function belongsToAnother(path: string): boolean {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch {
    return false;
  }
  const pid = HEADER.exec(text)?.[1];
  if (pid === undefined || Number(pid) === Deno.pid) return false;
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}

/** Readers see the old content or the new, never a part. */
function replaceFile(path: string, content: string): void {
  const aside = `${path}.${Deno.pid}`;
  Deno.writeTextFileSync(aside, content);
  Deno.renameSync(aside, path);
}

function removeQuietly(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch {
    // Somebody was faster; it is gone either way.
  }
}
