/** What a node starts. */

import { parseRole, type Role, ROLE_VARIABLE, ROLES } from "../config/mod.ts";
import { ConfigError } from "../errors.ts";

/** What the flag takes besides, for a process that needs no supervisor. */
const FLAG_ROLES = ["worker"];

/** Where a role may come from, strongest first. */
export interface RoleSources {
  /** `--role`. */
  readonly flag: string | undefined;
  /** The variable `REACTANT_ROLE`; empty means not given. */
  readonly variable: string | undefined;
  /** The node file's. */
  readonly file: Role | undefined;
}

/** The role that wins; `all` when nobody names one. @throws {ConfigError} naming who named no role */
export function chooseRole({ flag, variable, file }: RoleSources): Role {
  if (flag !== undefined) return wordToRole(flag, "--role", [...ROLES, ...FLAG_ROLES]);
  if (variable !== undefined && variable.trim() !== "") {
    return wordToRole(variable, ROLE_VARIABLE, ROLES);
  }
  return file ?? "all";
}

function wordToRole(word: string, name: string, words: readonly string[]): Role {
  const role = parseRole(word);
  if (role !== undefined) return role;
  throw new ConfigError(`${name} must be one of ${words.join(", ")}, got ${JSON.stringify(word)}`);
}
