/**
 * What a header list may contain (RFC 9113 section 8). A field is classified once, when HPACK first
 * sees it; the check of a whole list then only looks at small integers.
 */

/** What a field is to the rules. Everything from METHOD to PROTOCOL is a pseudo-header. */
export const FieldKind = {
  ORDINARY: 0,
  MALFORMED: 1,
  METHOD: 2,
  METHOD_CONNECT: 3,
  SCHEME: 4,
  PATH: 5,
  AUTHORITY: 6,
  STATUS: 7,
  STATUS_INFORMATIONAL: 8,
  PROTOCOL: 9,
  CONTENT_LENGTH: 10,
} as const;

/** Which section of a message a header list is. */
export type HeaderRole = "request" | "response" | "trailers";

/** The answer for a list that breaks the rules. */
export const MALFORMED = -2;
/** The answer for a valid list without `content-length`. */
export const NO_CONTENT_LENGTH = -1;

// Connection-specific fields (RFC 9113 section 8.2.2) have no place in HTTP/2.
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** A lower-case RFC 9110 token. */
const FIELD_NAME = /^[a-z0-9!#$%&'*+\-.^_`|~]+$/;
/** No control characters but TAB, no blank at either end, at most Latin-1. */
const FIELD_VALUE = /^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/;
const DIGITS = /^[0-9]{1,15}$/;
const STATUS = /^[1-9][0-9][0-9]$/;

/** Whether a field may be sent or received at all, pseudo-headers left aside. */
export function isValidName(name: string): boolean {
  return FIELD_NAME.test(name);
}

/** Whether a value holds nothing that could break out of its field. */
export function isValidValue(value: string): boolean {
  return FIELD_VALUE.test(value);
}

/** The kind of one field. */
export function classifyField(name: string, value: string): number {
  if (!FIELD_VALUE.test(value)) return FieldKind.MALFORMED;
  if (name.charCodeAt(0) === 0x3a) return classifyPseudo(name, value);
  if (!FIELD_NAME.test(name) || CONNECTION_SPECIFIC.has(name)) return FieldKind.MALFORMED;
  if (name === "te" && value !== "trailers") return FieldKind.MALFORMED;
  if (name !== "content-length") return FieldKind.ORDINARY;
  return DIGITS.test(value) ? FieldKind.CONTENT_LENGTH : FieldKind.MALFORMED;
}

function classifyPseudo(name: string, value: string): number {
  switch (name) {
    case ":method":
      if (value === "CONNECT") return FieldKind.METHOD_CONNECT;
      return value === "" ? FieldKind.MALFORMED : FieldKind.METHOD;
    case ":scheme":
      return value === "" ? FieldKind.MALFORMED : FieldKind.SCHEME;
    case ":path":
      return value.startsWith("/") || value === "*" ? FieldKind.PATH : FieldKind.MALFORMED;
    case ":authority":
      return FieldKind.AUTHORITY;
    case ":status":
      if (!STATUS.test(value)) return FieldKind.MALFORMED;
      return value.startsWith("1") ? FieldKind.STATUS_INFORMATIONAL : FieldKind.STATUS;
    case ":protocol":
      return FieldKind.PROTOCOL;
    default:
      return FieldKind.MALFORMED;
  }
}

// Bits of the pseudo-headers seen so far, by kind.
const SEEN_METHOD = 1, SEEN_CONNECT = 2, SEEN_SCHEME = 4, SEEN_PATH = 8, SEEN_AUTHORITY = 16;
const SEEN_STATUS = 32;

function pseudoBit(kind: number): number {
  switch (kind) {
    case FieldKind.METHOD:
      return SEEN_METHOD;
    case FieldKind.METHOD_CONNECT:
      return SEEN_METHOD | SEEN_CONNECT;
    case FieldKind.SCHEME:
      return SEEN_SCHEME;
    case FieldKind.PATH:
      return SEEN_PATH;
    case FieldKind.AUTHORITY:
      return SEEN_AUTHORITY;
    case FieldKind.STATUS:
    case FieldKind.STATUS_INFORMATIONAL:
      return SEEN_STATUS;
    default:
      return 0;
  }
}

/**
 * Checks a whole list by the kinds of its fields. Returns `MALFORMED`, `NO_CONTENT_LENGTH` or the
 * index of the `content-length` field.
 */
export function checkHeaders(kinds: readonly number[], role: HeaderRole): number {
  let seen = 0;
  let lengthAt = NO_CONTENT_LENGTH;
  let regular = false;
  for (let i = 0; i < kinds.length; i++) {
    const kind = kinds[i]!;
    if (kind === FieldKind.ORDINARY) {
      regular = true;
    } else if (kind === FieldKind.MALFORMED || kind === FieldKind.PROTOCOL) {
      // :protocol needs SETTINGS_ENABLE_CONNECT_PROTOCOL, which is never sent here.
      return MALFORMED;
    } else if (kind === FieldKind.CONTENT_LENGTH) {
      if (lengthAt !== NO_CONTENT_LENGTH) return MALFORMED;
      lengthAt = i;
      regular = true;
    } else {
      const bit = pseudoBit(kind);
      if (regular || (seen & bit) !== 0) return MALFORMED;
      seen |= bit;
    }
  }
  return isComplete(seen, role) ? lengthAt : MALFORMED;
}

function isComplete(seen: number, role: HeaderRole): boolean {
  if (role === "trailers") return seen === 0;
  if (role === "response") return seen === SEEN_STATUS;
  if ((seen & SEEN_CONNECT) !== 0) return seen === (SEEN_METHOD | SEEN_CONNECT | SEEN_AUTHORITY);
  return (seen & ~SEEN_AUTHORITY) === (SEEN_METHOD | SEEN_SCHEME | SEEN_PATH);
}
