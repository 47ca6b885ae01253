"""Checkpoints are read with their strides, and nothing in them is executed."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from millgate_training import backbone, torch_file


class Name:
    """Pickles as a name of PyTorch, which is not there."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce_ex__(self, _):
        raise NotImplementedError


class Writer(pickle._Pickler):  # the Python one: its methods can be replaced
    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return value.key if isinstance(value, Storage) else None

    def save_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    dispatch[Name] = save_name


class Storage:
    def __init__(self, key):
        self.key = key


class Tensor:
    def __init__(self, *place):
        self.place = place


def _save_tensor(writer, value):
    writer.save(Name("torch._utils", "_rebuild_tensor_v2"))
    writer.save(tuple(value.place))
    writer.write(pickle.REDUCE)


Writer.dispatch[Tensor] = _save_tensor


def checkpoint(size, stride, values):
    out = io.BytesIO()
    for head in (torch_file.MAGIC, torch_file.PROTOCOL, {"little_endian": True}):
        pickle.dump(head, out, 2)
    storage = Storage(("storage", Name("torch", "FloatStorage"), "7", "cpu", len(values), None))
    Writer(out, 2).dump(OrderedDict(w=Tensor(storage, 1, size, stride)))
    pickle.dump(["7"], out, 2)
    out.write(len(values).to_bytes(8, "little") + np.asarray(values, "<f4").tobytes())
    out.seek(0)
    return out


def test_a_transposed_tensor_is_read_by_its_strides():
    found = torch_file.read(checkpoint((2, 3), (1, 2), range(7)))["w"]
    assert found.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_a_tensor_that_reaches_outside_its_storage_is_refused():
    with pytest.raises(ValueError, match="outside"):
        torch_file.read(checkpoint((2, 4), (1, 2), range(7)))


def test_other_names_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="system"):
        torch_file.read(io.BytesIO(b"cposix\nsystem\n(S'true'\ntR."))


def test_same_padding_puts_the_rest_behind():
    assert backbone.pads(3, 1) == [1, 1, 1, 1]
    assert backbone.pads(3, 2) == [0, 0, 1, 1]
    assert backbone.pads(5, 2) == [1, 1, 2, 2]
