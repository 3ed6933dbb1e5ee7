"""grpcio (gRPC's C++ core) as the client of our server. Prints one line per check; fails on the first
that does not hold.

    grpcio_client.py PORT [--ca FILE] [--huge BYTES]
"""

import argparse
import sys
import threading
import time

import grpc

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("--ca")
parser.add_argument("--huge", type=int)
args = parser.parse_args()

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def open_channel(extra=()):
    options = OPTIONS + list(extra)
    if args.ca:
        with open(args.ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        return grpc.secure_channel(f"localhost:{args.port}", credentials, options)
    return grpc.insecure_channel(f"127.0.0.1:{args.port}", options)


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def expect(name, condition, shown=""):
    print(f"{name}: {'ok' if condition else 'FAILED ' + str(shown)}", flush=True)
    if not condition:
        sys.exit(1)


def pattern(length, seed=0):
    return bytes((i * 31 + seed) & 255 for i in range(256)) * (length // 256) + bytes(length % 256)


channel = open_channel()
unary = channel.unary_unary

if args.huge:
    request = pattern(args.huge)
    started = time.time()
    response = unary("/t.T/Echo")(request, timeout=600)
    expect(f"{args.huge} bytes", response == request, len(response))
    print(f"took {time.time() - started:.1f} s")
    sys.exit(0)

for size in (0, 1, 5, 3000, 16379, 16384, 65535, 65536, 1 << 20, 40_000_000):
    request = pattern(size)
    expect(f"unary {size}", unary("/t.T/Echo")(request, timeout=300) == request)

futures = [unary("/t.T/EchoLater").future(pattern(i * 100, i), timeout=300) for i in range(500)]
expect("500 at once", all(f.result() == pattern(i * 100, i) for i, f in enumerate(futures)))

code, details = code_of(lambda: unary("/t.T/Refuse")(b""))
expect("status", code == grpc.StatusCode.INVALID_ARGUMENT, code)
expect("message", details == 'dtype "ƒ32" is 100% unknown\n✓', details)
code, details = code_of(lambda: unary("/t.T/Crash")(b""))
expect("defect", code == grpc.StatusCode.INTERNAL and "secret" not in details, (code, details))
code, _ = code_of(lambda: unary("/t.T/Nope")(b""))
expect("unknown method", code == grpc.StatusCode.UNIMPLEMENTED, code)
code, _ = code_of(lambda: unary("/t.T/Echo")(bytes(64_000_001)))
expect("too large", code == grpc.StatusCode.RESOURCE_EXHAUSTED, code)

started = time.time()
code, _ = code_of(lambda: unary("/t.T/Hang")(b"", timeout=0.1))
expect("deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED and time.time() - started < 60, code)
future = unary("/t.T/Hang").future(b"")
time.sleep(0.05)
future.cancel()
expect("cancel", future.cancelled())

metadata = (("x-text", "a b"), ("x-raw-bin", bytes([0, 255, 16])))
response, call = unary("/t.T/Tags").with_call(b"m", metadata=metadata)
headers = dict(call.initial_metadata())
trailers = dict(call.trailing_metadata())
expect("headers", headers.get("x-text") == "a b" and headers.get("x-raw-bin") == bytes([0, 255, 16]), headers)
expect("trailers", trailers.get("x-raw-t-bin") == bytes([7]), trailers)

requests = [pattern(size, size) for size in (0, 1, 100, 20_000, 70_000, 3)]
expect("bidi", list(channel.stream_stream("/t.T/Bidi")(iter(requests))) == requests)
many = [pattern(1000)] * 2000
expect("bidi 2000", list(channel.stream_stream("/t.T/Bidi")(iter(many))) == many)
expect("client stream", channel.stream_unary("/t.T/Count")(iter(many)) == b"2000")
stream = channel.unary_stream("/t.T/FailMidway")(b"")
got = []
code, details = code_of(lambda: got.extend(stream))
expect("fail midway", code == grpc.StatusCode.DATA_LOSS and got == [b"\x01", b"\x02"], (code, got))
stream = channel.unary_stream("/t.T/Forever")(b"")
for index, _ in enumerate(stream):
    if index == 10:
        stream.cancel()
        break
expect("cancel stream", code_of(lambda: list(stream))[0] == grpc.StatusCode.CANCELLED)

for encoding in (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression):
    packed = open_channel([("grpc.default_compression_algorithm", encoding.value)])
    for size in (0, 10, 100_000):
        request = pattern(size)
        expect(f"compression {encoding} {size}", packed.unary_unary("/t.T/Echo")(request) == request)
    expect(f"compression {encoding} bidi", list(packed.stream_stream("/t.T/Bidi")(iter(requests))) == requests)
# The C core grants the bytes of every small answer at once, for the call and for the connection.
echo = open_channel([("grpc.use_local_subchannel_pool", 1)]).unary_unary("/t.T/Echo")
wrong = []
in_flight = threading.Semaphore(16)


def answered(future):
    in_flight.release()
    if future.exception() is not None or future.result() != b"few":
        wrong.append(future.exception())


for _ in range(14_000):
    in_flight.acquire()
    echo.future(b"few", timeout=300).add_done_callback(answered)
for _ in range(16):
    in_flight.acquire()
expect("14 000 on one connection", not wrong, wrong[:1])

errors = []


def hammer(seed):
    try:
        own = open_channel([("grpc.use_local_subchannel_pool", 1)])
        for index in range(200):
            request = pattern(index * 37, seed)
            if own.unary_unary("/t.T/Echo")(request, timeout=300) != request:
                errors.append("wrong answer")
        own.close()
    except grpc.RpcError as error:
        errors.append(error.details())


threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
expect("8 connections", not errors, errors[:3])
