"""Asks a pool for decisions on pictures, over REST, with nothing but Python: `decide_rest.py [--pool URL] PICTURE...`."""

import argparse
import json
import struct
import urllib.request
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--pool", default="http://127.0.0.1:8000")
parser.add_argument("pictures", nargs="+", type=Path)
flags = parser.parse_args()

# Pictures follow the JSON as they are: each its length in four bytes, the least first, and then its own.
rows = b"".join(struct.pack("<I", len(data)) + data for data in map(Path.read_bytes, flags.pictures))
head = json.dumps(
    {
        "inputs": [
            {
                "name": "image",
                "shape": [len(flags.pictures)],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(rows)},
            }
        ],
        "outputs": [{"name": "label"}, {"name": "probability"}],
    }
).encode()
request = urllib.request.Request(f"{flags.pool}/v2/models/inspect/infer", data=head + rows)
request.add_header("Content-Type", "application/octet-stream")
request.add_header("Inference-Header-Content-Length", str(len(head)))
with urllib.request.urlopen(request, timeout=5) as response:
    outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}

for picture, label, probability in zip(flags.pictures, outputs["label"], outputs["probability"], strict=True):
    print(f"{picture}: {label} {probability:.3f}")
