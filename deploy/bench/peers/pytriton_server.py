"""Triton behind `pytriton`, as its documentation has it: functions of this process, in the server's dynamic batches."""

import argparse
import pathlib

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from sessions import session

KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
MOST_ROWS = 32


def ports(of):
    lengths = lambda axes: tuple(axis if isinstance(axis, int) else -1 for axis in axes[1:])
    return [Tensor(name=port.name, dtype=KINDS[port.type], shape=lengths(port.shape)) for port in of]


def function(path):
    own = session(path)
    outputs = [port.name for port in own.get_outputs()]

    @batch
    def infer(**inputs):
        return dict(zip(outputs, own.run(outputs, inputs)))

    return infer, own


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    parser.add_argument("--ports", required=True, type=int, nargs=3, help="gRPC, HTTP, metrics")
    parser.add_argument("--instances", required=True, type=int)
    given = parser.parse_args()
    grpc, http, metrics = given.ports
    config = TritonConfig(grpc_address="127.0.0.1", grpc_port=grpc, http_address="127.0.0.1", http_port=http,
                          metrics_port=metrics)
    with Triton(config=config) as triton:
        for file in sorted(given.models.glob("*/1/model.onnx")):
            made = [function(file) for _ in range(given.instances)]
            _, own = made[0]
            triton.bind(
                model_name=file.parents[1].name, infer_func=[infer for infer, _ in made],
                inputs=ports(own.get_inputs()), outputs=ports(own.get_outputs()),
                config=ModelConfig(max_batch_size=MOST_ROWS, batcher=DynamicBatcher()), strict=False,
            )
        triton.serve()


if __name__ == "__main__":
    main()
