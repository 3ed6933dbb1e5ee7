/** The methods that the suites of the transport call, in one place: no message type, only bytes. */

import { InvalidArgumentError, ServerError } from "../errors.ts";
import type { CallContext, Message, MethodHandler } from "./handler.ts";

/** `arrived` hears of every call that reaches a handler; `bigBytes`: what `/t.T/Big` answers with. */
export function contractMethods(
  options: { arrived?: (call: CallContext) => void; bigBytes?: number } = {},
): Map<string, MethodHandler> {
  const { arrived = () => {}, bigBytes = 0 } = options;
  const unary = (handle: (request: Message, call: CallContext) => Message | Promise<Message>) => (
    {
      kind: "unary" as const,
      handle: (request: Message, call: CallContext) => (arrived(call), handle(request, call)),
    }
  );
  const untilAborted = (call: CallContext) =>
    new Promise<never>((_, reject) =>
      call.signal.addEventListener("abort", () => reject(call.signal.reason))
    );
  return new Map<string, MethodHandler>([
    ["/t.T/Echo", unary((request) => request)],
    ["/t.T/EchoLater", unary((request) => Promise.resolve(request))],
    [
      "/t.T/Tags",
      unary((request, call) => {
        for (const [key, value] of call.metadata.entries()) {
          if (key.startsWith("x-")) {
            call.responseHeaders.append(key, value);
            call.responseTrailers.append(
              `${key.replace(/-bin$/, "")}-t-bin`,
              new Uint8Array([7]),
            );
          }
        }
        return request;
      }),
    ],
    [
      "/t.T/Refuse",
      unary(() => {
        throw new InvalidArgumentError('dtype "ƒ32" is 100% unknown\n✓');
      }),
    ],
    [
      "/t.T/RefuseLater",
      unary((_, call) => {
        call.responseTrailers.append("x-why", "because");
        return Promise.reject(new ServerError("ABORTED", "later"));
      }),
    ],
    [
      "/t.T/Crash",
      unary(() => {
        throw new TypeError("secret detail");
      }),
    ],
    ["/t.T/Hang", unary((_, call) => untilAborted(call))],
    [
      "/t.T/GiveUp",
      unary(async (request, call) => {
        call.giveUp!(new ServerError("DEADLINE_EXCEEDED", "the device hangs"));
        call.giveUp!(new ServerError("INTERNAL", "once more"));
        await Promise.resolve();
        return request;
      }),
    ],
    ["/t.T/Big", unary(() => [new Uint8Array(bigBytes)])],
    ["/t.T/Bidi", {
      kind: "stream",
      async *handle(requests, call) {
        arrived(call);
        for await (const request of requests) yield request;
      },
    }],
    ["/t.T/Count", {
      kind: "stream",
      async *handle(requests, call) {
        arrived(call);
        let count = 0;
        for await (const _ of requests) count++;
        yield [new TextEncoder().encode(String(count))];
      },
    }],
    ["/t.T/Forever", {
      kind: "stream",
      async *handle(_, call) {
        arrived(call);
        for (let index = 0; !call.isAborted; index++) {
          yield [new Uint8Array([index & 255])];
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      },
    }],
    ["/t.T/FailMidway", {
      kind: "stream",
      async *handle(requests, call) {
        arrived(call);
        yield [new Uint8Array([1])];
        yield [new Uint8Array([2])];
        for await (const _ of requests);
        throw new ServerError("DATA_LOSS", "midway");
      },
    }],
    ["/t.T/None", {
      kind: "stream",
      async *handle(_, call) {
        arrived(call);
        yield* [];
      },
    }],
    ["/t.T/IgnoreRequests", {
      kind: "stream",
      async *handle(_, call) {
        arrived(call);
        yield [new Uint8Array([42])];
      },
    }],
  ]);
}
