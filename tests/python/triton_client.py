"""tritonclient's synchronous client against a server with the models of echo_bundles.ts.

triton_client.py PORT      prints the names of the checks that passed, one a line
"""

import sys

import ml_dtypes
import numpy
import grpc
from tritonclient.grpc import (
    InferenceServerClient, InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc,
)
from tritonclient.utils import InferenceServerException, shared_memory

DATATYPES = {
    "BOOL": numpy.bool_, "UINT8": numpy.uint8, "UINT16": numpy.uint16, "UINT32": numpy.uint32,
    "UINT64": numpy.uint64, "INT8": numpy.int8, "INT16": numpy.int16, "INT32": numpy.int32,
    "INT64": numpy.int64, "FP16": numpy.float16, "BF16": ml_dtypes.bfloat16,
    "FP32": numpy.float32, "FP64": numpy.float64,
}
TYPED = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents", "INT8": "int_contents",
    "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}
MODELS = sorted([
    *(f"echo_{datatype.lower()}" for datatype in DATATYPES),
    "pair", "scalar", "strings", "variants", "wide",
])
random = numpy.random.default_rng(11)


def tensor(name, array, datatype):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def values(datatype, shape):
    """Values over the whole range of a type."""
    kind = DATATYPES[datatype]
    if datatype == "BOOL":
        return random.integers(0, 2, shape).astype(kind)
    if datatype[0] in "UI":
        limits = numpy.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    return random.standard_normal(shape).astype(kind)


def same(found, wanted):
    assert found is not None
    assert found.dtype == wanted.dtype, f"{found.dtype} is not {wanted.dtype}"
    assert found.shape == wanted.shape, f"{found.shape} is not {wanted.shape}"
    assert found.tobytes() == wanted.tobytes(), f"{found} is not {wanted}"


def pair_inputs(rows=1):
    a = random.standard_normal((rows, 2)).astype(numpy.float32)
    b = random.standard_normal((rows, 2)).astype(numpy.float32)
    return a, b, [tensor("a", a, "FP32"), tensor("b", b, "FP32")]


def check_server(client, stub):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair")
    assert client.is_model_ready("pair", "7")
    assert not client.is_model_ready("nobody")
    metadata = client.get_server_metadata()
    assert metadata.name == "ReactantServer" and metadata.version
    assert "system_shared_memory" in metadata.extensions


def check_metadata(client, stub):
    for datatype in DATATYPES:
        metadata = client.get_model_metadata(f"echo_{datatype.lower()}")
        assert metadata.platform == "cpu"
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
            ("x", datatype, [-1, 3])
        ]
    metadata = client.get_model_metadata("scalar")
    assert list(metadata.inputs[0].shape) == []
    metadata = client.get_model_metadata("variants")
    assert list(metadata.inputs[0].shape) == [-1, -1]
    metadata = client.get_model_metadata("strings")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("text", "BYTES", [-1])
    ]


def check_configuration(client, stub):
    config = client.get_model_config("echo_int64").config
    assert config.name == "echo_int64" and config.max_batch_size == 4
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("x", 9, [3])]
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert config.instance_group[0].count == 1
    scalar = client.get_model_config("scalar").config
    assert scalar.max_batch_size == 0 and list(scalar.input[0].dims) == []
    assert client.get_model_config("strings").config.input[0].data_type == 13
    as_json = client.get_model_config("pair", as_json=True)
    assert [t["name"] for t in as_json["config"]["output"]] == ["sum", "difference"]


def check_repository(client, stub):
    index = client.get_model_repository_index()
    assert [model.name for model in index.models] == MODELS, index
    assert all(model.state == "READY" and model.reason == "" for model in index.models)
    ready = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True))
    assert [model.name for model in ready.models] == MODELS


def check_raw(client, stub):
    for datatype in DATATYPES:
        for rows in (1, 2, 3, 4):
            x = values(datatype, (rows, 3))
            answer = client.infer(f"echo_{datatype.lower()}", [tensor("x", x, datatype)])
            same(answer.as_numpy("y"), x)
            output = answer.get_response().outputs[0]
            assert (output.datatype, list(output.shape)) == (datatype, [rows, 3])


def check_typed(client, stub):
    for datatype, field in TYPED.items():
        x = values(datatype, (2, 3))
        request = service_pb2.ModelInferRequest(model_name=f"echo_{datatype.lower()}")
        made = request.inputs.add(name="x", datatype=datatype, shape=x.shape)
        getattr(made.contents, field).extend(x.reshape(-1).tolist())
        response = stub.ModelInfer(request)
        assert response.raw_output_contents[0] == x.tobytes(), datatype
        assert not response.outputs[0].HasField("contents")


def check_strings(client, stub):
    texts = numpy.array([b"", "naïve".encode(), "🙂🙂".encode()], dtype=numpy.object_)
    answer = client.infer("strings", [tensor("text", texts, "BYTES")])
    assert answer.as_numpy("text").tolist() == texts.tolist()
    request = service_pb2.ModelInferRequest(model_name="strings")
    made = request.inputs.add(name="text", datatype="BYTES", shape=[2])
    made.contents.bytes_contents.extend([b"typed", b"\x00\xff"])
    response = stub.ModelInfer(request)
    assert response.raw_output_contents[0] == b"\x05\0\0\0typed\x02\0\0\0\x00\xff"


def check_shapes(client, stub):
    answer = client.infer("scalar", [tensor("x", numpy.array(21, dtype=numpy.float32), "FP32")])
    same(answer.as_numpy("y"), numpy.array(42, dtype=numpy.float32))
    for extent in (2, 4):
        x = values("FP32", (3, extent))
        same(client.infer("variants", [tensor("x", x, "FP32")]).as_numpy("y"), x)


def check_large(client, stub):
    for rows in (1, 2):
        x = random.integers(-(2**31), 2**31, (rows, 300_000), dtype=numpy.int32)
        same(client.infer("wide", [tensor("x", x, "INT32")]).as_numpy("y"), x)


def check_outputs(client, stub):
    a, b, inputs = pair_inputs()
    names = lambda answer: [output.name for output in answer.get_response().outputs]
    everything = client.infer("pair", inputs)
    assert names(everything) == ["sum", "difference"]
    same(everything.as_numpy("sum"), a + b)
    for wanted in (["difference"], ["difference", "sum"], ["sum", "sum"]):
        outputs = [InferRequestedOutput(name) for name in wanted]
        answer = client.infer("pair", inputs, outputs=outputs)
        assert names(answer) == wanted
        assert len(answer.get_response().raw_output_contents) == len(wanted)
        if "difference" in wanted:
            same(answer.as_numpy("difference"), a - b)


def check_ids(client, stub):
    _, _, inputs = pair_inputs()
    for wanted in ("", "id-1", "Ω" * 500):
        answer = client.infer(
            "pair", inputs, request_id=wanted, model_version="3", priority=2, sequence_id=5,
            timeout=10_000_000, parameters={"color": "blue", "ratio": 0.5},
        )
        response = answer.get_response()
        assert response.id == wanted
        assert response.model_name == "pair" and response.model_version == ""


def check_compression(client, stub):
    x = values("FP64", (4, 3))
    answer = client.infer("echo_fp64", [tensor("x", x, "FP64")], compression_algorithm="gzip")
    same(answer.as_numpy("y"), x)


def statistics(client, name):
    found = client.get_inference_statistics(name).model_stats
    assert [model.name for model in found] == [name]
    return found[0]


def check_statistics(client, stub):
    _, _, inputs = pair_inputs(rows=2)
    before = statistics(client, "pair")
    for _ in range(5):
        client.infer("pair", inputs)
    try:
        client.infer("pair", inputs[:1])
        raise AssertionError("an incomplete request was answered")
    except InferenceServerException:
        pass
    after = statistics(client, "pair")
    assert after.inference_count - before.inference_count == 10
    assert after.execution_count - before.execution_count == 5
    assert after.inference_stats.success.count - before.inference_stats.success.count == 5
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    spent = after.inference_stats.success.ns - before.inference_stats.success.ns
    assert 0 < spent < 60e9
    assert after.last_inference > 1_700_000_000_000
    assert {model.name for model in client.get_inference_statistics().model_stats} == set(MODELS)


def check_errors(client, stub):
    a, _, inputs = pair_inputs()
    cases = [
        ("StatusCode.NOT_FOUND", "nobody", inputs, None),
        ("StatusCode.INVALID_ARGUMENT", "pair", inputs[:1], None),
        ("StatusCode.INVALID_ARGUMENT", "pair", inputs, [InferRequestedOutput("product")]),
        ("StatusCode.INVALID_ARGUMENT", "pair", [*inputs, tensor("c", a, "FP32")], None),
    ]
    for wanted, model, given, outputs in cases:
        try:
            client.infer(model, given, outputs=outputs)
            raise AssertionError(f"{model} answered")
        except InferenceServerException as error:
            assert error.status() == wanted, error
            assert error.message(), error
    # Its hook waits for something that never happens, so that no machine is quick enough.
    text = tensor("text", numpy.array([b"\x15"], dtype=numpy.object_), "BYTES")
    try:
        client.infer("strings", [text], client_timeout=0.5)
        raise AssertionError("a call that never ends was answered")
    except InferenceServerException as error:
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED", error


def check_shared_memory(client, stub):
    x = values("INT32", (2, 3))
    handle = shared_memory.create_shared_memory_region("region", "/reactant_test_region", 64)
    try:
        shared_memory.set_shared_memory_region(handle, [x])
        client.register_system_shared_memory("region", "/reactant_test_region", 64)
        status = client.get_system_shared_memory_status().regions["region"]
        assert (status.key, status.offset, status.byte_size) == ("/reactant_test_region", 0, 64)
        given = InferInput("x", [2, 3], "INT32")
        given.set_shared_memory("region", 24)
        wanted = InferRequestedOutput("y")
        wanted.set_shared_memory("region", 40, offset=24)
        answer = client.infer("echo_int32", [given], outputs=[wanted])
        response = answer.get_response()
        assert len(response.raw_output_contents) == 0
        parameters = response.outputs[0].parameters
        assert parameters["shared_memory_region"].string_param == "region"
        assert parameters["shared_memory_offset"].int64_param == 24
        assert parameters["shared_memory_byte_size"].int64_param == 24
        found = shared_memory.get_contents_as_numpy(handle, numpy.int32, [2, 3], offset=24)
        same(numpy.array(found), x)
        # Triton's client leaves tensors in shared memory out of the raw contents.
        a, b, inputs = pair_inputs()
        shared_memory.set_shared_memory_region(handle, [b])
        shared = InferInput("b", [1, 2], "FP32")
        shared.set_shared_memory("region", 8)
        for order in ([inputs[0], shared], [shared, inputs[0]]):
            same(client.infer("pair", order).as_numpy("sum"), a + b)
        client.unregister_system_shared_memory("region")
        assert len(client.get_system_shared_memory_status().regions) == 0
        try:
            client.infer("echo_int32", [given])
            raise AssertionError("a region that is gone was read")
        except InferenceServerException as error:
            assert error.status() == "StatusCode.FAILED_PRECONDITION", error
            assert "unregistered shared memory region" in error.message()
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def main():
    target = f"127.0.0.1:{sys.argv[1]}"
    with InferenceServerClient(target) as client, grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, check in list(globals().items()):
            if name.startswith("check_"):
                check(client, stub)
                print(name.removeprefix("check_"), flush=True)


main()
