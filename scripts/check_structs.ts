/**
 * Compares the struct tables of `ffi/pjrt` with a `pjrt_c_api.h`: every field's name, offset and type,
 * every function's place in `PJRT_Api`, every enum's numbers, the API version.
 *
 *     deno run -A scripts/check_structs.ts [HEADER]
 *
 * Without a header it takes the one that setup unpacks beside the plugin. Fails on any difference, also
 * on additions at the end: those are harmless to run against, but the tables then name an old version.
 */

import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  type AnyLayout,
  ARGS,
  PJRT_Api,
  PJRT_API_MAJOR,
  PJRT_API_MINOR,
  PJRT_Api_Version,
  PJRT_Buffer_Type,
  PJRT_ERROR_CODES,
  PJRT_ExecuteOptions,
  PJRT_HostBufferSemantics,
  PJRT_NamedValue,
  PJRT_NamedValue_Type,
  PJRT_Program,
} from "../ffi/mod.ts";

/** One field as the header declares it. */
interface HeaderField {
  readonly name: string;
  readonly type: string;
}

const LAYOUTS: readonly AnyLayout[] = [
  PJRT_Api,
  PJRT_Api_Version,
  PJRT_NamedValue,
  PJRT_Program,
  PJRT_ExecuteOptions,
  ...Object.values(ARGS),
];

/** Our names for the anonymous unions of the header, by struct. */
const UNION_NAMES: Readonly<Record<string, string>> = { PJRT_NamedValue: "value" };

/** Each enum of ours, with what the header puts before the names of its members. */
const ENUMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  PJRT_NamedValue_: PJRT_NamedValue_Type,
  PJRT_Buffer_Type_: PJRT_Buffer_Type,
  PJRT_HostBufferSemantics_: PJRT_HostBufferSemantics,
  PJRT_Error_Code_: Object.fromEntries(PJRT_ERROR_CODES.map((name, code) => [name, code])),
};

/** What differs between the tables and a header, one line each; empty when nothing does. */
export function compareWithHeader(header: string): string[] {
  const code = header.replace(/\/\*[^]*?\*\//g, "").replace(/\/\/.*$/gm, "");
  const structs = parseStructs(code);
  return [
    ...compareVersion(code),
    ...LAYOUTS.flatMap((layout) => compareStruct(layout, structs)),
    ...compareEnums(code),
  ];
}

function compareVersion(code: string): string[] {
  const find = (name: string) => Number(new RegExp(`#define ${name} (\\d+)`).exec(code)?.[1]);
  const found = `${find("PJRT_API_MAJOR")}.${find("PJRT_API_MINOR")}`;
  const ours = `${PJRT_API_MAJOR}.${PJRT_API_MINOR}`;
  return found === ours ? [] : [`the header is C API ${found}, the tables are ${ours}`];
}

/** Fields of every struct, by struct name; a union counts as one field. */
function parseStructs(code: string): Map<string, HeaderField[]> {
  const structs = new Map<string, HeaderField[]>();
  const pattern = /(?:typedef )?struct (\w+) \{((?:[^{}]|\{[^{}]*\})*)\}/g;
  for (const [, name, body] of code.matchAll(pattern)) {
    const flat = body!
      .replace(/union \{([^{}]*)\};/g, (_, members: string) => {
        const widest = Math.max(
          ...parseFields(members).map(({ type }) => sizeOf(type, structs)[0]),
        );
        return `union_${widest} ${UNION_NAMES[name!] ?? "union"};`;
      })
      .replace(/_PJRT_API_STRUCT_FIELD\((\w+)\);/g, "$1* $1;");
    structs.set(name!, parseFields(flat));
  }
  return structs;
}

function parseFields(body: string): HeaderField[] {
  return body.split(";").map((line) => line.replace(/\s+/g, " ").trim()).filter((line) => line)
    .map((line) => {
      const callback = /\(\*(\w+)\)\(/.exec(line);
      if (callback) return { name: callback[1]!, type: "void*" };
      const [, type, name] = /^(.*?)(\w+)$/.exec(line)!;
      return { name: name!, type: type!.replace(/\b(const|struct)\b/g, "").replace(/\s+/g, "") };
    });
}

/** Size and alignment of a C type. */
function sizeOf(type: string, structs: Map<string, HeaderField[]>): [size: number, align: number] {
  const union = /^union_(\d+)$/.exec(type);
  if (union) return [Number(union[1]), 8];
  if (type.endsWith("*") || /Callback|ValueDeleter/.test(type)) return [8, 8];
  if (["size_t", "int64_t", "uint64_t", "intptr_t", "uintptr_t"].includes(type)) return [8, 8];
  if (type === "bool") return [1, 1];
  const fields = structs.get(type);
  if (fields === undefined) return [4, 4]; // int, float and the enums
  const last = place(fields, structs).at(-1)!;
  return [Math.ceil((last.offset + last.size) / 8) * 8, 8];
}

function place(fields: readonly HeaderField[], structs: Map<string, HeaderField[]>) {
  let at = 0;
  return fields.map((field) => {
    const [size, align] = sizeOf(field.type, structs);
    const offset = Math.ceil(at / align) * align;
    at = offset + size;
    return { ...field, offset, size };
  });
}

function compareStruct(layout: AnyLayout, structs: Map<string, HeaderField[]>): string[] {
  const declared = structs.get(layout.name);
  if (declared === undefined) return [`${layout.name} is not in the header`];
  const theirs = place(declared, structs);
  const ours = Object.keys(layout.fields);
  const differences: string[] = [];
  for (let index = 0; index < Math.max(theirs.length, ours.length); index++) {
    const field = theirs[index];
    const name = ours[index];
    if (field === undefined || name === undefined || field.name !== name) {
      const found = `the header has ${field?.name ?? "nothing"}, the table ${name ?? "nothing"}`;
      return [...differences, `${layout.name} field ${index}: ${found}`];
    }
    const kind = layout.fields[name]!;
    const offset = layout.offsets[name]!;
    if (offset !== field.offset || kind.size !== field.size) {
      differences.push(
        `${layout.name}.${name}: ${field.size} bytes at ${field.offset} in the header, ` +
          `${kind.size} at ${offset} in the table`,
      );
    }
    // Plain memory fits every pointer; a typed pointer must be of the header's type.
    const isTyped = kind.c.endsWith("*") && kind.c !== "void*";
    if (isTyped && kind.c !== field.type) {
      differences.push(
        `${layout.name}.${name}: ${field.type} in the header, ${kind.c} in the table`,
      );
    }
  }
  return differences;
}

function compareEnums(code: string): string[] {
  const members = new Map<string, number>();
  for (const [, body] of code.matchAll(/typedef enum \{([^}]*)\}/g)) {
    let next = 0;
    for (const member of body!.split(",")) {
      const found = /(\w+)(?:\s*=\s*(\d+))?/.exec(member);
      if (!found) continue;
      next = found[2] === undefined ? next : Number(found[2]);
      members.set(found[1]!, next++);
    }
  }
  const differences: string[] = [];
  for (const [prefix, values] of Object.entries(ENUMS)) {
    for (const [name, value] of Object.entries(values)) {
      const found = members.get(prefix + name);
      if (found !== value) {
        differences.push(`${prefix}${name}: ${found} in the header, ours ${value}`);
      }
    }
    const pattern = new RegExp(`^${prefix}[A-Za-z0-9_]+$`);
    const count = [...members.keys()].filter((member) =>
      pattern.test(member) && !(prefix === "PJRT_NamedValue_" && !member.includes("_k"))
    ).length;
    const known = Object.keys(values).length;
    if (count !== known) {
      differences.push(`${prefix}*: ${count} members in the header, ours ${known}`);
    }
  }
  return differences;
}

if (import.meta.main) {
  const standard = fileURLToPath(new URL("../.cache/pjrt/pjrt_c_api.h", import.meta.url));
  const path = Deno.args[0] ?? standard;
  const differences = compareWithHeader(Deno.readTextFileSync(path));
  for (const difference of differences) console.error(difference);
  if (differences.length === 0) {
    console.log(
      `${LAYOUTS.length} structs and ${Object.keys(ENUMS).length} enums agree with ${path}`,
    );
  }
  process.exitCode = differences.length === 0 ? 0 : 1;
}
