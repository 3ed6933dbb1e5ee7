/** Methods whose messages go through the generated code. */

import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { decodeRequest, encodeMessage, methodPath } from "../protocol/mod.ts";
import type { MethodHandler } from "../transport/mod.ts";

/** A method table's row: `answer` gives the fields of the response, or throws a `ServerError`. */
export function unary<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  answer: (request: MessageShape<I>) => MessageInitShape<O> | Promise<MessageInitShape<O>>,
): [string, MethodHandler] {
  return [methodPath(method), {
    kind: "unary",
    handle: (message) => {
      const answered = answer(decodeRequest(method.input, message));
      return answered instanceof Promise
        ? answered.then((fields) => encodeMessage(method.output, fields))
        : encodeMessage(method.output, answered);
    },
  }];
}
