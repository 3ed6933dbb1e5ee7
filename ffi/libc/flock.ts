/** Advisory locks between processes, on files that exist for nothing else. */

import { SystemCallError } from "../errors.ts";
import { Descriptor, O_CREAT, O_EXCL, O_RDWR } from "./descriptor.ts";
import { EEXIST } from "./errno.ts";

export interface LockOptions {
  /** Shared locks go together; an exclusive one goes with none. Default exclusive. */
  readonly isShared?: boolean;
  /** Permission bits of a lock file that this call creates, applied whatever the umask. */
  readonly mode?: number;
}

/**
 * Takes the lock on a file, creating it when it is missing, or returns `undefined` when another holder
 * excludes it. Held until disposed or until the process ends, however it ends.
 * @throws {SystemCallError} when the file cannot be opened
 */
export function tryLock(path: string, options: LockOptions = {}): Disposable | undefined {
  const { isShared = false, mode = 0o600 } = options;
  using owned = new DisposableStack();
  const file = owned.use(openLockFile(path, mode));
  if (!file.tryLock({ isShared })) return undefined;
  owned.move();
  return file;
}

/** Opens the file; when this call creates it, with exactly the bits of `mode`. */
function openLockFile(path: string, mode: number): Descriptor {
  try {
    const file = Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL, mode);
    file.setMode(mode);
    return file;
  } catch (error) {
    if (!(error instanceof SystemCallError && error.errno === EEXIST)) throw error;
    return Descriptor.open(path, O_RDWR | O_CREAT, mode);
  }
}
