"""Reads a PyTorch checkpoint of the old format (no zip) without PyTorch, and without executing anything that is in it.

Four pickles: a magic number, the protocol, the sizes of types, the state dict, whose tensors name a storage; then the list of
storages, and for each a count and its raw values. Offset and stride of a tensor are honoured: the kernels of networks that
were converted from TensorFlow are stored transposed.
"""

import pickle
from collections import OrderedDict

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8", "HalfStorage": "<f2", "DoubleStorage": "<f8", "IntStorage": "<i4"}


class Restricted(pickle.Unpickler):
    """Knows the few names that a state dict is made of, and refuses any other."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
        if module == "torch" and name in TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a state dict")

    def persistent_load(self, key):
        return key


def read(stream):
    """Name -> array, in the order of the file."""
    head = [Restricted(stream).load() for _ in range(3)]
    if head[:2] != [MAGIC, PROTOCOL] or not head[2]["little_endian"]:
        raise ValueError("not a little-endian PyTorch file of the old format")
    tensors = Restricted(stream).load()
    types = {str(storage[2]): TYPES[storage[1]] for storage, *_ in tensors.values()}
    storages = {}
    for key in Restricted(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        kind = np.dtype(types[key])
        storages[key] = np.frombuffer(stream.read(count * kind.itemsize), kind)
        if len(storages[key]) != count:
            raise ValueError(f"storage {key} ends early")
    return {name: view(storages[str(s[2])], *place) for name, (s, *place) in tensors.items()}


def view(values, offset, size, stride):
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if min(offset, *stride, 0) < 0 or last >= len(values):
        raise ValueError(f"a tensor of {size} reaches outside its storage")
    strides = [step * values.itemsize for step in stride]
    return np.array(np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False))
