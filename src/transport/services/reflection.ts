/** The standard reflection service, `grpc.reflection.v1` and its older name `v1alpha`. */

import {
  create,
  type DescExtension,
  type DescFile,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { InvalidArgumentError } from "../../errors.ts";
import { file_grpc_health_v1_health } from "../gen/grpc/health/v1/health_pb.ts";
import {
  file_grpc_reflection_v1_reflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { file_grpc_reflection_v1alpha_reflection } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { joinMessage, type MethodHandler } from "../handler.ts";
import { STATUS_NUMBERS } from "../status.ts";

/** What a listener says about itself. */
export interface ReflectionOptions {
  /** The files that define its services; what they import is found through them. */
  readonly files: readonly DescFile[];
  /** Services to list. Default: every service of `files`, and health and reflection themselves. */
  readonly services?: readonly string[];
}

type Answer = ServerReflectionResponse["messageResponse"];

/** The methods of both reflection services, for a `MethodTable`. */
export function reflectionMethods(options: ReflectionOptions): [string, MethodHandler][] {
  const catalogue = new Catalogue(options);
  // The two packages differ in name only, so one codec serves both.
  const handler: MethodHandler = {
    kind: "stream",
    async *handle(requests) {
      for await (const bytes of requests) {
        const request = decode(joinMessage(bytes));
        yield [
          toBinary(
            ServerReflectionResponseSchema,
            create(ServerReflectionResponseSchema, {
              validHost: request.host,
              originalRequest: request,
              messageResponse: catalogue.answer(request.messageRequest),
            }),
          ),
        ];
      }
    },
  };
  return ["v1", "v1alpha"].map((
    version,
  ) => [`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, handler]);
}

function decode(bytes: Uint8Array): ServerReflectionRequest {
  try {
    return fromBinary(ServerReflectionRequestSchema, bytes);
  } catch (error) {
    throw new InvalidArgumentError("Not a ServerReflectionRequest", { cause: error });
  }
}

/** All files by name, and by every name they define. */
class Catalogue {
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();
  /** By extended message, then by number. */
  readonly #extensions = new Map<string, Map<number, DescFile>>();
  readonly #services: string[];

  constructor(options: ReflectionOptions) {
    const roots = [
      ...options.files,
      file_grpc_health_v1_health,
      file_grpc_reflection_v1_reflection,
      file_grpc_reflection_v1alpha_reflection,
    ];
    for (const root of roots) for (const file of withImports(root)) this.#add(file);
    const all = new Set(roots.flatMap((file) => file.services.map((service) => service.typeName)));
    this.#services = [...options.services ?? all].sort();
  }

  answer(request: ServerReflectionRequest["messageRequest"]): Answer {
    switch (request.case) {
      case "fileByFilename":
        return this.#file(this.#files.get(request.value), `file ${request.value}`);
      case "fileContainingSymbol":
        return this.#file(this.#symbols.get(request.value), `symbol ${request.value}`);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = request.value;
        const file = this.#extensions.get(containingType)?.get(extensionNumber);
        return this.#file(file, `extension ${extensionNumber} of ${containingType}`);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = request.value;
        if (!this.#symbols.has(baseTypeName)) return notFound(`type ${baseTypeName}`);
        const extensionNumber = [...this.#extensions.get(baseTypeName)?.keys() ?? []];
        return {
          case: "allExtensionNumbersResponse",
          value: {
            $typeName: "grpc.reflection.v1.ExtensionNumberResponse",
            baseTypeName,
            extensionNumber,
          },
        };
      }
      case "listServices":
        return {
          case: "listServicesResponse",
          value: {
            $typeName: "grpc.reflection.v1.ListServiceResponse",
            service: this.#services.map((name) => ({
              $typeName: "grpc.reflection.v1.ServiceResponse",
              name,
            })),
          },
        };
      case undefined:
        return failure("INVALID_ARGUMENT", "The request asks nothing");
    }
  }

  #file(file: DescFile | undefined, what: string): Answer {
    if (file === undefined) return notFound(what);
    const fileDescriptorProto = withImports(file).map(({ proto }) =>
      toBinary(FileDescriptorProtoSchema, proto)
    );
    return {
      case: "fileDescriptorResponse",
      value: { $typeName: "grpc.reflection.v1.FileDescriptorResponse", fileDescriptorProto },
    };
  }

  #add(file: DescFile): void {
    // Descriptors carry the name without its suffix; the wire wants it as it is imported.
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    const addExtension = (extension: DescExtension) => {
      this.#symbols.set(extension.typeName, file);
      const extended = extension.extendee.typeName;
      const numbers = this.#extensions.get(extended) ?? new Map<number, DescFile>();
      this.#extensions.set(extended, numbers.set(extension.number, file));
    };
    const addMessage = (message: DescFile["messages"][number]) => {
      this.#symbols.set(message.typeName, file);
      for (const field of message.fields) {
        this.#symbols.set(`${message.typeName}.${field.name}`, file);
      }
      for (const nested of message.nestedEnums) this.#symbols.set(nested.typeName, file);
      message.nestedExtensions.forEach(addExtension);
      message.nestedMessages.forEach(addMessage);
    };
    file.messages.forEach(addMessage);
    file.extensions.forEach(addExtension);
    for (const { typeName } of file.enums) this.#symbols.set(typeName, file);
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const { name } of service.methods) {
        this.#symbols.set(`${service.typeName}.${name}`, file);
      }
    }
  }
}

/** A file, then everything it imports, each once. */
function withImports(file: DescFile): DescFile[] {
  const found = new Set<DescFile>();
  const visit = (each: DescFile) => {
    if (found.has(each)) return;
    found.add(each);
    each.dependencies.forEach(visit);
  };
  visit(file);
  return [...found];
}

function notFound(what: string): Answer {
  return failure("NOT_FOUND", `Unknown ${what.slice(0, 256)}`);
}

function failure(status: keyof typeof STATUS_NUMBERS, errorMessage: string): Answer {
  return {
    case: "errorResponse",
    value: {
      $typeName: "grpc.reflection.v1.ErrorResponse",
      errorCode: STATUS_NUMBERS[status],
      errorMessage,
    },
  };
}
