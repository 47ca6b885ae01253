"""Asks a pool for decisions on pictures, over gRPC with tritonclient: `decide.py [--pool HOST:PORT] PICTURE...`.

Needs `pip install tritonclient[grpc] numpy`. Each task of the bundle is a model: encoded pictures in, a decision a row out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

parser = argparse.ArgumentParser()
parser.add_argument("--pool", default="127.0.0.1:8001")
parser.add_argument("pictures", nargs="+", type=Path)
flags = parser.parse_args()

rows = np.array([picture.read_bytes() for picture in flags.pictures], dtype=object)
images = triton.InferInput("image", list(rows.shape), "BYTES")
images.set_data_from_numpy(rows)

with triton.InferenceServerClient(flags.pool) as pool:
    # Microseconds; what the pool cannot answer in that time it refuses at once.
    answer = pool.infer("inspect", [images], timeout=2_000_000)

labels, sure = answer.as_numpy("label"), answer.as_numpy("probability")
records = answer.as_numpy("decision")
for picture, label, probability, record in zip(flags.pictures, labels, sure, records, strict=True):
    why = json.loads(record)["why"]["rule"]
    print(f"{picture}: {label.decode()} {float(probability):.3f}, {why}")
