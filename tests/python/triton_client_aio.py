"""tritonclient's asyncio client: many different requests at once over one connection.

triton_client_aio.py PORT      prints a JSON object of what was done
"""

import asyncio
import json
import sys

import numpy
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

REQUESTS = 600
IN_FLIGHT = 50


def tensor(name, array, datatype):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


async def echo(client, index):
    """Every request has its own values, so that an answer to another would be noticed."""
    kind, datatype = [(numpy.float32, "FP32"), (numpy.int64, "INT64")][index % 2]
    rows = 1 + index % 4
    x = (numpy.arange(rows * 3).reshape(rows, 3) + index * 1000).astype(kind)
    answer = await client.infer(
        f"echo_{datatype.lower()}", [tensor("x", x, datatype)], request_id=str(index)
    )
    assert answer.get_response().id == str(index)
    assert numpy.array_equal(answer.as_numpy("y"), x), f"request {index}"


async def pair(client, index):
    a = numpy.full((1, 2), index, dtype=numpy.float32)
    answer = await client.infer(
        "pair", [tensor("a", a, "FP32"), tensor("b", a, "FP32")],
        outputs=[InferRequestedOutput("sum")],
    )
    assert answer.as_numpy("sum").tolist() == [[2 * index, 2 * index]]
    assert answer.as_numpy("difference") is None


async def refused(client, index):
    x = numpy.zeros((1, 4), dtype=numpy.float32)
    try:
        await client.infer("echo_fp32", [tensor("x", x, "FP32")])
    except InferenceServerException as error:
        assert error.status() == "StatusCode.INVALID_ARGUMENT", error
        assert 'input "x"' in error.message(), error
        return
    raise AssertionError("a wrong shape was answered")


async def main():
    async with InferenceServerClient(f"127.0.0.1:{sys.argv[1]}") as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert not await client.is_model_ready("nobody")
        assert (await client.get_model_metadata("pair")).name == "pair"
        assert (await client.get_model_config("pair")).config.max_batch_size == 4
        assert len((await client.get_model_repository_index()).models) > 10

        places = asyncio.Semaphore(IN_FLIGHT)
        done = {"echo": 0, "pair": 0, "refused": 0}

        async def one(index):
            async with places:
                work = (echo, echo, pair, refused)[index % 4]
                await work(client, index)
                done[work.__name__] += 1

        await asyncio.gather(*(one(index) for index in range(REQUESTS)))

        # A call given up by its caller leaves the connection usable.
        x = numpy.zeros((1, 3), dtype=numpy.float32)
        given_up = [
            asyncio.ensure_future(client.infer("echo_fp32", [tensor("x", x, "FP32")]))
            for _ in range(50)
        ]
        await asyncio.sleep(0)
        for call in given_up:
            call.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        await echo(client, 0)
        print(json.dumps(done))


asyncio.run(main())
