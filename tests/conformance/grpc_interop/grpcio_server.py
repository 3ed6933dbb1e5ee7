"""grpcio (gRPC's C++ core) as the server of our client. Prints its port, serves until its input ends.

    grpcio_server.py [--cert FILE --key FILE]
"""

import argparse
import sys
import time
from concurrent import futures

import grpc

parser = argparse.ArgumentParser()
parser.add_argument("--cert")
parser.add_argument("--key")
args = parser.parse_args()


def refuse(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100% ƒ\n✓")


def hang(request, context):
    while context.is_active():
        time.sleep(0.005)
    return b""


def meta(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-got", sent["x-sent"]),))
    context.set_trailing_metadata((("x-raw-bin", sent["x-sent-bin"]),))
    return request


def time_left(request, context):
    return str(context.time_remaining()).encode()


def fail(request, context):
    yield b"\x01"
    yield b"\x02"
    context.abort(grpc.StatusCode.DATA_LOSS, "midway")


def forever(request, context):
    while context.is_active():
        yield bytes(100_000)


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Meta": grpc.unary_unary_rpc_method_handler(meta),
    "TimeLeft": grpc.unary_unary_rpc_method_handler(time_left),
    "Bidi": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
    "Count": grpc.stream_unary_rpc_method_handler(
        lambda requests, context: str(sum(1 for _ in requests)).encode()
    ),
    "Fail": grpc.unary_stream_rpc_method_handler(fail),
    "Forever": grpc.unary_stream_rpc_method_handler(forever),
}

server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=32),
    options=[
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", 20),
        # Else it turns calls away at random before that limit is reached.
        ("grpc.max_concurrent_streams_overload_protection", 0),
    ],
    compression=grpc.Compression.NoCompression,
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", HANDLERS),))
if args.cert:
    with open(args.key, "rb") as key, open(args.cert, "rb") as cert:
        credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(0).wait()
