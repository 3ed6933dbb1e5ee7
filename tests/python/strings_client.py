"""Sends texts through the hooks of the echo bundles' `strings` model and prints what comes back, as JSON.

    .cache/venv/bin/python tests/python/strings_client.py HOST:PORT TEXT...
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton


def main() -> None:
    texts = np.array([text.encode() for text in sys.argv[2:]], dtype=np.object_)
    tensor = triton.InferInput("text", list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts)
    with triton.InferenceServerClient(sys.argv[1]) as client:
        answer = client.infer("strings", [tensor]).as_numpy("text")
    print(json.dumps([text.decode() for text in answer]))


if __name__ == "__main__":
    main()
