"""System shared memory through tritonclient, against the model `simple`: the calls that Triton's own example
makes, then everything that can be wrong with a region. Prints the name of each part that held.

    shared_memory_flow.py HOST:PORT INT32|FP32
"""
import os
import sys

import numpy
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, shared_memory, triton_to_np_dtype

BYTES = 64
DATATYPE = sys.argv[2]
DTYPE = triton_to_np_dtype(DATATYPE)
SUFFIX = f"_{os.getpid()}"
INPUT_KEY = f"/reactant_input{SUFFIX}"
OUTPUT_KEY = f"/reactant_output{SUFFIX}"

a = numpy.arange(16, dtype=DTYPE)
b = numpy.full(16, 3, dtype=DTYPE)


class Region:
    """A region that exists, is registered, and is gone in the end, whatever the part did to it."""

    def __init__(self, client, name, key, size):
        self.client, self.name, self.size = client, name, size
        self.path = f"/dev/shm{key}"
        self.handle = shared_memory.create_shared_memory_region(name, key, size)
        client.register_system_shared_memory(name, key, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.unregister_system_shared_memory(self.name)
        if not os.path.exists(self.path):
            # What is destroyed is unlinked first.
            open(self.path, "w").close()
        shared_memory.destroy_shared_memory_region(self.handle)

    def put(self, array, offset=0):
        shared_memory.set_shared_memory_region(self.handle, [array], offset=offset)

    def get(self, count, offset=0):
        found = shared_memory.get_contents_as_numpy(
            self.handle, DTYPE, [count], offset=offset
        )
        return numpy.array(found)


def inputs(first, second, shape=(1, 16)):
    made = []
    for name, source in (("INPUT0", first), ("INPUT1", second)):
        tensor = InferInput(name, list(shape), DATATYPE)
        if isinstance(source, numpy.ndarray):
            tensor.set_data_from_numpy(source.reshape(shape))
        else:
            tensor.set_shared_memory(*source)
        made.append(tensor)
    return made


def outputs(**places):
    made = []
    for name, place in places.items():
        made.append(InferRequestedOutput(name))
        made[-1].set_shared_memory(*place)
    return made


def refused(status, says, call):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert says in error.message(), error.message()
        return
    raise AssertionError(f"nothing refused it with {status}: {says}")


def works(client):
    """A plain request, to see that the server has taken no harm."""
    answer = client.infer("simple", inputs(a, b))
    assert (answer.as_numpy("OUTPUT0") == a + b).all()


def check_example(client):
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    results = shared_memory.create_shared_memory_region("output_data", OUTPUT_KEY, 2 * BYTES)
    client.register_system_shared_memory("output_data", OUTPUT_KEY, 2 * BYTES)
    given = shared_memory.create_shared_memory_region("input_data", INPUT_KEY, 2 * BYTES)
    shared_memory.set_shared_memory_region(given, [a])
    shared_memory.set_shared_memory_region(given, [b], offset=BYTES)
    client.register_system_shared_memory("input_data", INPUT_KEY, 2 * BYTES)
    answer = client.infer(
        "simple",
        inputs(("input_data", BYTES), ("input_data", BYTES, BYTES)),
        outputs=outputs(OUTPUT0=("output_data", BYTES), OUTPUT1=("output_data", BYTES, BYTES)),
    )
    for name, offset, wanted in (("OUTPUT0", 0, a + b), ("OUTPUT1", BYTES, a - b)):
        output = answer.get_output(name)
        found = shared_memory.get_contents_as_numpy(
            results, triton_to_np_dtype(output.datatype), output.shape, offset=offset
        )
        assert found.shape == (1, 16) and (found[0] == wanted).all(), found
        del found
    regions = client.get_system_shared_memory_status().regions
    assert sorted(regions) == ["input_data", "output_data"]
    assert regions["input_data"].key == INPUT_KEY
    assert regions["input_data"].byte_size == 2 * BYTES
    assert len(client.get_cuda_shared_memory_status().regions) == 0
    client.unregister_system_shared_memory()
    assert len(client.get_system_shared_memory_status().regions) == 0
    assert len(shared_memory.mapped_shared_memory_regions()) == 2
    shared_memory.destroy_shared_memory_region(given)
    shared_memory.destroy_shared_memory_region(results)
    assert len(shared_memory.mapped_shared_memory_regions()) == 0


def check_offsets(client):
    """A region registered from an offset on; two rows in it; one output of two; the rest by wire."""
    handle = shared_memory.create_shared_memory_region("late", INPUT_KEY, 5 * BYTES)
    client.register_system_shared_memory("late", INPUT_KEY, 4 * BYTES, offset=BYTES)
    rows = numpy.arange(32, dtype=DTYPE)
    shared_memory.set_shared_memory_region(handle, [rows], offset=2 * BYTES)
    wire = numpy.full(32, 7, dtype=DTYPE)
    for first, second, sign in (
        (("late", 2 * BYTES, BYTES), wire, 1),
        (wire, ("late", 2 * BYTES, BYTES), -1),
    ):
        answer = client.infer(
            "simple", inputs(first, second, (2, 16)), outputs=[InferRequestedOutput("OUTPUT1")]
        )
        assert (answer.as_numpy("OUTPUT1").ravel() == sign * (rows - wire)).all()
    client.unregister_system_shared_memory("late")
    shared_memory.destroy_shared_memory_region(handle)


def check_replaced(client):
    """A name registered again means the new object from then on."""
    with Region(client, "data", INPUT_KEY, BYTES) as old:
        old.put(a)
        handle = shared_memory.create_shared_memory_region("data", OUTPUT_KEY, BYTES)
        shared_memory.set_shared_memory_region(handle, [2 * a])
        client.register_system_shared_memory("data", OUTPUT_KEY, BYTES)
        answer = client.infer("simple", inputs(("data", BYTES), b))
        assert (answer.as_numpy("OUTPUT0") == 2 * a + b).all()
        shared_memory.destroy_shared_memory_region(handle)


def check_unregistered(client):
    missing = inputs(("nowhere", BYTES), b)
    refused("FAILED_PRECONDITION", "unregistered shared memory region",
            lambda: client.infer("simple", missing))
    refused("FAILED_PRECONDITION", "unregistered shared memory region",
            lambda: client.infer("simple", inputs(a, b), outputs=outputs(OUTPUT0=("gone", BYTES))))
    client.unregister_system_shared_memory("nowhere")
    refused("UNIMPLEMENTED", "CUDA shared memory",
            lambda: client.register_cuda_shared_memory("gpu", b"AAAA", 0, BYTES))
    works(client)


def check_out_of_range(client):
    with Region(client, "data", INPUT_KEY, 2 * BYTES) as region:
        region.put(a)
        for place in (("data", BYTES, BYTES + 1), ("data", BYTES, 2**62), ("data", BYTES, 1 << 40)):
            refused("INVALID_ARGUMENT", "INPUT0", lambda: client.infer("simple", inputs(place, b)))
            refused("INVALID_ARGUMENT", "OUTPUT0",
                    lambda: client.infer("simple", inputs(a, b), outputs=outputs(OUTPUT0=place)))
        # More or fewer bytes than the shape takes, and a slot too small for the result.
        for size in (BYTES - 4, BYTES + 4):
            refused("INVALID_ARGUMENT", "INPUT0",
                    lambda: client.infer("simple", inputs(("data", size), b)))
        refused("INVALID_ARGUMENT", "OUTPUT0",
                lambda: client.infer("simple", inputs(a, b), outputs=outputs(OUTPUT0=("data", 60))))
        assert (region.get(16) == a).all()
        works(client)


def check_overlapping(client):
    """Inputs are read before anything is written, and of overlapping outputs the later one wins."""
    with Region(client, "data", INPUT_KEY, 2 * BYTES) as region:
        region.put(a)
        places = dict(OUTPUT0=("data", BYTES), OUTPUT1=("data", BYTES, BYTES // 2))
        client.infer("simple", inputs(("data", BYTES), ("data", BYTES)), outputs=outputs(**places))
        assert (region.get(8) == 2 * a[:8]).all()
        assert (region.get(16, BYTES // 2) == 0).all()
        works(client)


def check_shrunk(client):
    with Region(client, "data", INPUT_KEY, 4096) as region:
        region.put(a)
        os.truncate(region.path, BYTES // 2)
        refused("INVALID_ARGUMENT", "shrunk",
                lambda: client.infer("simple", inputs(("data", BYTES), b)))
        refused("INVALID_ARGUMENT", "shrunk",
                lambda: client.infer(
                    "simple", inputs(a, b), outputs=outputs(OUTPUT0=("data", BYTES))))
        assert os.path.getsize(region.path) == BYTES // 2
        os.truncate(region.path, 0)
        refused("INVALID_ARGUMENT", "shrunk",
                lambda: client.infer("simple", inputs(("data", BYTES), b)))
        os.truncate(region.path, 4096)
        region.put(b)
        answer = client.infer("simple", inputs(("data", BYTES), b))
        assert (answer.as_numpy("OUTPUT0") == 2 * b).all()
        works(client)


def check_unlinked(client):
    """An object without a name lives on while somebody holds it: the client's and our handle do."""
    with Region(client, "data", INPUT_KEY, 2 * BYTES) as region:
        region.put(a)
        os.unlink(region.path)
        places = dict(OUTPUT0=("data", BYTES, BYTES))
        client.infer("simple", inputs(("data", BYTES), b), outputs=outputs(**places))
        assert (region.get(16, BYTES) == a + b).all()
        refused("INVALID_ARGUMENT", "cannot be opened",
                lambda: client.register_system_shared_memory("again", INPUT_KEY, BYTES))


def check_bad_registrations(client):
    def register(name, key, size, offset=0):
        return lambda: client.register_system_shared_memory(name, key, size, offset=offset)

    handle = shared_memory.create_shared_memory_region("data", INPUT_KEY, BYTES)
    size = os.path.getsize(f"/dev/shm{INPUT_KEY}")
    for call, says in (
        (register("data", "/reactant_no_such_object", BYTES), "cannot be opened"),
        (register("data", "/../../etc/passwd", BYTES), "no object name"),
        (register("data", "", BYTES), "no object name"),
        (register("", INPUT_KEY, BYTES), "needs a name"),
        (register("data", INPUT_KEY, 0), "byte_size is 0"),
        (register("data", INPUT_KEY, size + 1), "fewer than"),
        (register("data", INPUT_KEY, size, 1), "fewer than"),
        (register("data", INPUT_KEY, 2**64 - 1, 2**64 - 1), "fewer than"),
    ):
        refused("INVALID_ARGUMENT", says, call)
    assert len(client.get_system_shared_memory_status().regions) == 0
    shared_memory.destroy_shared_memory_region(handle)
    works(client)


def main():
    with InferenceServerClient(sys.argv[1]) as client:
        for name, check in list(globals().items()):
            if name.startswith("check_"):
                check(client)
                print(name.removeprefix("check_"), flush=True)


main()
