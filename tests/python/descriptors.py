"""Compares our message descriptors with those that come with tritonclient.

Reads base64 FileDescriptorProtos, one per argument, each after those it imports. Prints a JSON object:
"differences", and how many messages and fields were compared.
"""

import base64
import json
import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

LABEL_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


def messages(file):
    """Every message of a file by its full name, nested ones included."""

    def walk(prefix, message):
        name = f"{prefix}.{message.name}"
        yield name, message
        for nested in message.nested_type:
            yield from walk(name, nested)

    for message in file.message_type:
        yield from walk(file.package, message)


def described(module):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def shape(message, field):
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
    return (field.number, field.type, field.label, field.type_name, oneof)


def main():
    files = []
    for argument in sys.argv[1:]:
        file = descriptor_pb2.FileDescriptorProto()
        file.ParseFromString(base64.b64decode(argument))
        files.append(file)
    theirs, their_methods, their_enums = {}, {}, {}
    for module in (service_pb2, model_config_pb2):
        file = described(module)
        theirs.update(messages(file))
        their_enums.update({enum.name: enum for enum in file.enum_type})
        for service in file.service:
            their_methods.update({method.name: method for method in service.method})

    differences, compared, fields = [], 0, 0
    ours_only = []
    for file in files:
        for enum in file.enum_type:
            wanted = {value.name: value.number for value in their_enums[enum.name].value}
            found = {value.name: value.number for value in enum.value}
            if wanted != found:
                differences.append(f"enum {enum.name}: {found} where Triton has {wanted}")
        for service in file.service:
            for method in service.method:
                if method.name not in their_methods:
                    ours_only.append(method.name)
                    continue
                other = their_methods[method.name]
                if (method.input_type, method.output_type) != (other.input_type, other.output_type):
                    differences.append(f"method {method.name} has other messages")
        for name, message in messages(file):
            if name not in theirs:
                ours_only.append(name)
                continue
            compared += 1
            other = theirs[name]
            ours_by_name = {field.name: field for field in message.field}
            reserved = {n for r in message.reserved_range for n in range(r.start, r.end)}
            for field in other.field:
                mine = ours_by_name.pop(field.name, None)
                if mine is None:
                    if field.number not in reserved:
                        differences.append(f"{name}.{field.name} is neither there nor reserved")
                elif shape(message, mine) != shape(other, field):
                    differences.append(
                        f"{name}.{field.name}: {shape(message, mine)} where Triton has"
                        f" {shape(other, field)}"
                    )
                else:
                    fields += 1
            differences += [f"{name}.{field} is not in Triton" for field in ours_by_name]
    print(json.dumps({
        "differences": differences, "messages": compared, "fields": fields, "oursOnly": ours_only,
    }))


main()
