"""Weights in pickles: PyTorch's files, and Caffe2's ``{"blobs": {name: array}}`` of Python 2. No code of theirs runs.

Sources: PyTorch's ``torch/serialization.py``; PySlowFast's ``utils/c2_model_loading.py``, which reads Caffe2 files.
"""

import math
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

_WRAPPERS = ("model_state", "state_dict", "model")  # pytorchvideo and PySlowFast; mmaction2; others
_TORCH_ZIP = b"PK\x03\x04"
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that PyTorch's older format begins with, pickled
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(dp?\d*\n|\}q|\(?c[\w.]+\n[\w.]+\n")  # protocols 2 to 5; 0 and 1
_TRAINING = ("_momentum", "lr", "model_iter")  # ends of the names of Caffe2 blobs that are no weights
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


# What mmengine's runner keeps beside the weights; nothing of it is read.
_LEFT_OUT = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
)


class _Inert:
    """Stands in for an object of no use here, whatever it is built with."""

    def __init__(self, *_given: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class RefusedClassError(Exception):
    """A pickle asks for a class or function that weights do not need; the message is its name."""


def looks_like_torch(head: bytes) -> bool:
    """Whether these first bytes are of a file by ``torch.save``, or of another zip archive."""
    return head.startswith(_TORCH_ZIP) or _TORCH_MAGIC in head[:32]


def looks_like_pickle(head: bytes) -> bool:
    """Whether these first bytes are of a pickle."""
    return _PICKLE.match(head) is not None


def read_torch(path: Path) -> dict[str, Tensor]:
    """The state dict in a file by ``torch.save``, out of its wrapper if it has one.

    Raises:
        RefusedClassError: the file asks for a class that PyTorch does not allow among weights.
        ValueError: there is no state dict in it; PyTorch raises other errors for damaged files.
    """
    try:
        # By handle: given a path, torch.load goes by its suffix. What it warns of is either harmless or an error here.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([(_Inert, name) for name in _LEFT_OUT]):
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise _plain(error) from error
    return _state_dict(content)


def _plain(error: pickle.UnpicklingError) -> Exception:
    """PyTorch's refusal without its advice to read the file unsafely."""
    refused = re.search(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>", str(error))
    if refused:
        return RefusedClassError(refused[1] or refused[2])
    reason = str(error).split("\n\nCheck the documentation")[0].rpartition("\n")[2]
    return ValueError(reason.removeprefix("WeightsUnpickler error: "))


def _state_dict(content: object) -> dict[str, Tensor]:
    wrapped = [content[key] for key in _WRAPPERS if key in content] if isinstance(content, Mapping) else []
    state = next((inner for inner in wrapped if isinstance(inner, Mapping)), content)
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, no state dict")
    if any(isinstance(value, Mapping) and _tensors(value) for value in state.values()) or not _tensors(state):
        raise ValueError(f"no state dict under {', '.join(_WRAPPERS)}; the entries are {_some(state)}")
    return _tensors(state)


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value.detach() for name, value in state.items() if isinstance(value, Tensor)}


def _some(state: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, list(state)[:8])) or "none"


def read_caffe2(path: Path) -> dict[str, Tensor]:
    """The arrays of a Caffe2 pickle, floats as float32, without those of the training.

    Raises:
        RefusedClassError: the pickle asks for more than arrays and containers.
        ValueError: it is not ``{"blobs": {name: array}}``; pickle raises other errors for damaged files.
    """
    with path.open("rb") as file:
        content = _Unpickler(file, encoding="latin1").load()
    blobs = content.get("blobs") if isinstance(content, dict) else None
    if not isinstance(blobs, dict):
        found = f"a dictionary of {_some(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"it holds {found}, not Caffe2's dictionary with 'blobs'")
    arrays = {str(name): blob for name, blob in blobs.items() if isinstance(blob, _Array) and blob.is_numeric}
    return {name: blob.tensor() for name, blob in arrays.items() if not name.endswith(_TRAINING)}


@dataclass
class _Dtype:
    """A pickled ``numpy.dtype``: nothing but its code ("f4") and byte order."""

    code: str = ""
    align: object = None
    copy: object = None
    order: Literal["<", ">", "|", "="] = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


@dataclass
class _Array:
    """A pickled ``numpy.ndarray``: nothing but its parts; numpy itself unpickles nothing here."""

    shape: tuple[int, ...] = ()
    dtype: _Dtype | None = None
    is_fortran: bool = False
    data: bytes | str = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.dtype, self.is_fortran, self.data = state[-4:]

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers, and not objects or text."""
        return isinstance(self.dtype, _Dtype) and self.dtype.code in _KINDS

    def tensor(self) -> Tensor:
        """The values; floats as float32."""
        if not isinstance(self.dtype, _Dtype):
            raise TypeError("an array without a type")
        # A str is the bytes of Python 2, each as one character of Latin-1.
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, np.dtype(self.dtype.code).newbyteorder(self.dtype.order))
        if math.prod(self.shape) != flat.size:
            raise ValueError(f"an array of shape {self.shape} has {flat.size} values")
        kind = np.float32 if flat.dtype.kind == "f" else flat.dtype.newbyteorder("=")
        array = flat.reshape(self.shape, order="F" if self.is_fortran else "C")
        return torch.from_numpy(array.astype(kind, order="C"))

    # Bound methods: nothing in a pickle can set an attribute of one, as it could of a plain function.
    @classmethod
    def reconstruct(cls, *_arguments: object) -> "_Array":
        """Stand in for ``numpy.core.multiarray._reconstruct``, whose array gets its content later."""
        return cls()

    @classmethod
    def from_buffer(cls, data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> "_Array":
        """Stand in for ``numpy.core.numeric._frombuffer``, which pickles of protocol 5 use."""
        return cls(shape, dtype, order == "F", data)

    @classmethod
    def scalar(cls, *_arguments: object) -> None:
        """Stand in for ``numpy.core.multiarray.scalar``; a scalar is no weight."""

    @classmethod
    def encode(cls, text: str, encoding: str = "latin1") -> bytes:
        """Stand in for ``_codecs.encode``, by which protocol 2 writes the bytes of Python 3."""
        return text.encode("latin1" if encoding == "latin1" else "ascii")


_NAMES = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _Array.encode,
    "collections.OrderedDict": OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray._reconstruct"] = _Array.reconstruct
    _NAMES[f"{_core}.multiarray.scalar"] = _Array.scalar
    _NAMES[f"{_core}.numeric._frombuffer"] = _Array.from_buffer


class _Unpickler(pickle.Unpickler):
    """Builds the stand-ins above and plain containers, and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401 (the base class has it so)
        """The stand-in for a name in the pickle."""
        name = f"{module_name}.{global_name}"
        if name not in _NAMES:
            raise RefusedClassError(name)
        return _NAMES[name]
