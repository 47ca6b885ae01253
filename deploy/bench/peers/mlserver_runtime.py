"""An MLServer runtime that runs an ONNX file; MLServer's adaptive batching joins and splits the requests."""

import asyncio

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri
from sessions import session


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        self.session = session(await get_model_uri(self.settings))
        self.names = [port.name for port in self.session.get_outputs()]
        return True

    async def predict(self, payload):
        inputs = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        # Off the event loop, so that requests can gather for the next batch meanwhile.
        outputs = await asyncio.to_thread(self.session.run, self.names, inputs)
        tensors = [NumpyCodec.encode_output(name, output) for name, output in zip(self.names, outputs)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=tensors)
