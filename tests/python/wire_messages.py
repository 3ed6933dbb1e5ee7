"""ModelInfer messages made and read by tritonclient's own code.

wire_messages.py emit          prints a JSON list of requests, in base64, with what they hold
wire_messages.py check FILE    reads such a list of requests and responses that were encoded elsewhere and
                               checks that protobuf reads in them what `emit` would have put there

Both build the same messages from the same seed.
"""

import base64
import json
import sys

import ml_dtypes
import numpy
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2
from tritonclient.grpc._utils import _get_inference_request

DATATYPES = {
    "BOOL": numpy.bool_, "UINT8": numpy.uint8, "UINT16": numpy.uint16, "UINT32": numpy.uint32,
    "UINT64": numpy.uint64, "INT8": numpy.int8, "INT16": numpy.int16, "INT32": numpy.int32,
    "INT64": numpy.int64, "FP16": numpy.float16, "BF16": ml_dtypes.bfloat16, "FP32": numpy.float32,
    "FP64": numpy.float64, "BYTES": numpy.object_,
}
TYPED = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents", "INT8": "int_contents",
    "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}
SHAPES = [[], [1], [0, 3], [2, 3], [1, 1, 200], [4000]]


def values(random, datatype, shape):
    kind = DATATYPES[datatype]
    if datatype == "BYTES":
        flat = [random.bytes(int(random.integers(0, 40))) for _ in range(int(numpy.prod(shape)))]
        array = numpy.empty(shape, dtype=numpy.object_)
        array.reshape(-1)[:] = flat
        return array
    if datatype == "BOOL":
        return random.integers(0, 2, shape).astype(kind)
    if datatype[0] in "UI":
        limits = numpy.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    return random.standard_normal(shape).astype(kind)


def raw(datatype, array):
    """The bytes tritonclient puts on the wire."""
    tensor = InferInput("raw", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return bytes(tensor._get_content() or b"")


def cases():
    random = numpy.random.default_rng(7)
    for index, datatype in enumerate(DATATYPES):
        for shape in SHAPES:
            arrays = [values(random, datatype, shape) for _ in range(1 + index % 3)]
            yield {
                "model": f"model_{datatype.lower()}", "id": f"id-{index}-{len(shape)}",
                "datatype": datatype, "shape": shape, "arrays": arrays,
                "parameters": {"flag": index % 2 == 0, "count": index * 10**14, "text": "é" * index,
                               "ratio": index / 3},
            }


def request_of(case, typed):
    inputs = []
    for index, array in enumerate(case["arrays"]):
        tensor = InferInput(f"input_{index}", case["shape"], case["datatype"])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    request = _get_inference_request(
        model_name=case["model"], inputs=inputs, model_version="3", request_id=case["id"],
        outputs=[InferRequestedOutput("out")], sequence_id=0, sequence_start=False,
        sequence_end=False, priority=0, timeout=None, parameters=case["parameters"],
    )
    if typed:
        del request.raw_input_contents[:]
        for tensor, array in zip(request.inputs, case["arrays"]):
            getattr(tensor.contents, TYPED[case["datatype"]]).extend(array.reshape(-1).tolist())
    return request


def emit():
    messages = []
    for case in cases():
        expected = {
            "model": case["model"], "id": case["id"], "datatype": case["datatype"],
            "shape": case["shape"], "parameters": case["parameters"],
            "tensors": [base64.b64encode(raw(case["datatype"], a)).decode() for a in case["arrays"]],
        }
        for typed in (False, True):
            if typed and case["datatype"] not in TYPED:
                continue
            encoded = request_of(case, typed).SerializeToString()
            messages.append({**expected, "typed": typed, "message": base64.b64encode(encoded).decode()})
    print(json.dumps(messages))


def check(path):
    with open(path) as file:
        encoded = json.load(file)
    for case, found in zip(cases(), encoded, strict=True):
        wanted = request_of(case, typed=False)
        if case["shape"] == [0, 3]:
            # tritonclient sends an empty entry; so do we.
            assert len(wanted.raw_input_contents) == len(case["arrays"])
        request = service_pb2.ModelInferRequest.FromString(base64.b64decode(found["request"]))
        assert request == wanted, f"{request}\nis not\n{wanted}"
        response = service_pb2.ModelInferResponse.FromString(base64.b64decode(found["response"]))
        expected = service_pb2.ModelInferResponse(
            model_name=wanted.model_name, model_version="3", id=wanted.id,
            raw_output_contents=wanted.raw_input_contents,
        )
        for tensor in wanted.inputs:
            expected.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        for key, parameter in wanted.parameters.items():
            expected.parameters[key].CopyFrom(parameter)
        assert response == expected, f"{response}\nis not\n{expected}"
    print(json.dumps({"checked": len(encoded)}))


if sys.argv[1] == "emit":
    emit()
else:
    check(sys.argv[2])
