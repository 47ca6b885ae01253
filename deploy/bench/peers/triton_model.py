"""A Triton Python backend that runs the `model.onnx` beside it: what the dynamic batcher put together is one run."""

import pathlib

import numpy as np
import triton_python_backend_utils as pb
from sessions import session


class TritonPythonModel:
    def initialize(self, args):
        folder = pathlib.Path(args["model_repository"]) / args["model_version"]
        self.session = session(folder / "model.onnx")
        self.inputs = [port.name for port in self.session.get_inputs()]
        self.outputs = [port.name for port in self.session.get_outputs()]

    def execute(self, requests):
        try:
            return self.together(requests)
        except Exception as error:  # As Triton's own onnxruntime backend: a failed run fails all that were in it.
            return [pb.InferenceResponse(error=pb.TritonError(str(error))) for _ in requests]

    def together(self, requests):
        parts = [[pb.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs] for request in requests]
        rows = [len(part[0]) for part in parts]
        joined = (part[0] if len(part) == 1 else np.concatenate(part) for part in zip(*parts))
        outputs = self.session.run(self.outputs, dict(zip(self.inputs, joined)))
        responses, start = [], 0
        for count in rows:
            cut = [pb.Tensor(name, output[start:start + count]) for name, output in zip(self.outputs, outputs)]
            responses.append(pb.InferenceResponse(output_tensors=cut))
            start += count
        return responses
