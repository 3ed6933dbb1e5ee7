/**
 * Which model runs next. A discipline is a pure function in a file of its own; a new one is a file, a
 * name in `config` and a row here.
 */
import type { DisciplineName } from "../../config/mod.ts";
import { edf } from "./edf.ts";
import { fair } from "./fair.ts";
import { fifo } from "./fifo.ts";
import type { Discipline } from "./types.ts";

export * from "./types.ts";

/** Every discipline by its configured name. */
export const DISCIPLINES = { fair, fifo, edf } satisfies Record<DisciplineName, Discipline>;
