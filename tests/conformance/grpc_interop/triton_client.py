"""tritonclient against canned answers in the shape of Triton's: what matters is that its channel,
options and streaming work over our transport.

    triton_client.py PORT
"""

import queue
import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
assert client.is_server_live()
values = np.arange(700, dtype=np.float32).reshape(1, 700)
tensor = triton.InferInput("x", values.shape, "FP32")
tensor.set_data_from_numpy(values)
for compression in (None, "gzip"):
    for _ in range(50):
        result = client.infer("echo", [tensor], client_timeout=120, compression_algorithm=compression)
        assert result.as_numpy("y").tolist() == [1, 2, 3, 4], result.get_response()

answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
for _ in range(20):
    client.async_stream_infer("echo", [tensor])
for _ in range(20):
    result, error = answers.get(timeout=120)
    assert error is None, error
    assert result.as_numpy("y").tolist() == [1, 2, 3, 4]
client.stop_stream()

pending = [queue.Queue() for _ in range(100)]
for each in pending:
    client.async_infer("echo", [tensor], callback=lambda result, error, each=each: each.put((result, error)))
assert all(each.get(timeout=120)[1] is None for each in pending)
client.close()
print("ok")
