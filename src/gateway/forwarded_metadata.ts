/** Metadata that passes through the gateway, in both directions. */

import { ServerError } from "../errors.ts";
import { CallMetadata, type Metadata } from "../transport/mod.ts";

/** What a client says about its connection to us, not about its request. */
const OWN = new Set(["user-agent", "host", "accept-encoding", "content-length", "date", "server"]);

/** The entries that are to be passed on; `undefined` when there are none, which is the rule. */
export function forwardedMetadata(received: Metadata): CallMetadata | undefined {
  let forwarded: CallMetadata | undefined;
  for (const [key, value] of received.entries()) {
    if (OWN.has(key)) continue;
    try {
      (forwarded ??= new CallMetadata()).append(key, value);
    } catch (error) {
      // Reading is lenient and writing is strict: what cannot be written is not worth the request.
      if (!(error instanceof ServerError)) throw error;
    }
  }
  return forwarded?.isEmpty === false ? forwarded : undefined;
}

/** Adds the entries of one side's metadata to what goes out on the other. */
export function passOn(received: Metadata, into: () => Metadata): void {
  const forwarded = forwardedMetadata(received);
  if (forwarded === undefined) return;
  const target = into();
  for (const [key, value] of forwarded.entries()) target.append(key, value);
}
