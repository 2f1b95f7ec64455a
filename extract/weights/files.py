"""Checkpoint files of video networks, read into plain tensors under the names that the file itself gives them.

A file's first bytes say what it is; its suffix is not looked at, but for TensorFlow, whose checkpoint is several files.
"""

import codecs
import errno
import importlib
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from extract.errors import InputError, MachineError, UntrimmedError
from extract.weights._caffe import looks_like_caffe, read_caffe
from extract.weights._pickles import RefusedClassError, looks_like_pickle, looks_like_torch, read_caffe2, read_torch

_HEAD_BYTES = 4096
_EXPECTED = (
    "expected a checkpoint: safetensors, PyTorch (.pt, .pth, .pyth), a Caffe2 pickle with 'blobs' (.pkl), "
    "Caffe's binary network (.caffemodel) or a TensorFlow checkpoint (.index and .data files)"
)
_TENSORFLOW_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last bytes of TensorFlow's .index, as of LevelDB's tables
_TRAINING = {"global_step", "beta1_power", "beta2_power"}
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype|<html|<head|<\?xml|<error)", re.IGNORECASE)
_TEXT = re.compile(r"[^\x00-\x08\x0b\x0e-\x1f\x7f]*")
_FOREIGN = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself (git lfs pull brings it)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "a gzip archive (unpack it first)"),
    (b"BZh", "a bzip2 archive (unpack it first)"),
    (b"\xfd7zXZ", "an xz archive (unpack it first)"),
    (b"Rar!", "a RAR archive (unpack it first)"),
)


@dataclass(frozen=True)
class _Format:
    """A kind of checkpoint: its name in messages, how its first bytes are known, and its reader."""

    name: str
    matches: Callable[[bytes], bool]
    read: Callable[[Path], dict[str, Tensor]]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU, by their names in the file and in its order; no code of it runs.

    Formats: safetensors; PyTorch, zip and older, with the state dict plain or under ``model_state``, ``state_dict``
    or ``model``; Caffe2 pickles as PySlowFast's and the Non-local networks' (floats as float32); Caffe's binary
    NetParameter as C3D's, with keys ``NAME[k]``; TensorFlow checkpoints as of DeepMind's kinetics-i3d, arrays as they
    are, without the variables of optimizers (needs the library tensorflow).

    Args:
        path: the file; for TensorFlow one of its files, or their common beginning (``.../model.ckpt``).

    Raises:
        InputError: the file is missing, broken or of another kind, has no tensors, or wants to run code.
        MachineError: the file cannot be read from its disk, or tensorflow is needed and missing.
    """
    form, place = _format(path)
    try:
        tensors = form.read(place)
    except UntrimmedError:
        raise
    except RefusedClassError as error:
        raise InputError(_refusal(path, form, str(error))) from error
    except Exception as error:  # what readers raise for damaged bytes has no common kind
        raise _broken(path, form, error) from error
    if not tensors:
        raise InputError(f"{path}: this {form.name} file has no tensors; {_EXPECTED}")
    return tensors


def _format(path: Path) -> tuple[_Format, Path]:
    """The format of a file and the path to read it by."""
    prefix = _tensorflow_prefix(path)
    if prefix is not None:
        return _TENSORFLOW, prefix
    head = _head(path)
    form = next((known for known in _FORMATS if known.matches(head)), None)
    if form is None:
        raise InputError(f"{path}: this looks like {_looks_like(path, head)}; {_EXPECTED}")
    return form, path


def _tensorflow_prefix(path: Path) -> Path | None:
    """The common beginning of a TensorFlow checkpoint's files, when ``path`` means one."""
    prefix = Path(_TENSORFLOW_PART.sub("", str(path)))
    if prefix == path and path.exists():
        return None
    return prefix if _index(prefix).is_file() else None


def _index(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def _head(path: Path) -> bytes:
    if not path.exists():
        raise InputError(f"{path}: there is no such file; {_EXPECTED}")
    if not path.is_file():
        raise InputError(f"{path}: this is {'a folder' if path.is_dir() else 'no regular file'}; {_EXPECTED}")
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror}") from error


def _looks_like(path: Path, head: bytes) -> str:
    """What a file of no known format may be."""
    if not head:
        return "an empty file"
    if _HTML.match(head):
        return "a web page (an error page saved in place of the download?)"
    if _TENSORFLOW_PART.search(path.name):
        return f"a part of a TensorFlow checkpoint without its {_TENSORFLOW_PART.sub('.index', path.name)}"
    known = next((name for start, name in _FOREIGN if head.startswith(start)), None)
    if known is None and _is_text(head):
        return f"text ({head[:40].decode('utf-8', 'replace').strip()!r} …)"
    return known or f"binary data of another kind (it begins with {head[:8].hex(' ')})"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return _TEXT.fullmatch(text) is not None


def _is_safetensors(head: bytes) -> bool:
    """Whether a length of eight bytes comes first, and JSON after it; the format bounds the length to 100 MB."""
    return head[4:9] == b"\0\0\0\0{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def _refusal(path: Path, form: _Format, name: str) -> str:
    return (
        f"{path}: this {form.name} file wants to build {name}, which was refused: loading that would run code from the "
        "file; weights need none. Convert the file to safetensors on a machine where it is trusted, and use that"
    )


def _broken(path: Path, form: _Format, error: Exception) -> UntrimmedError:
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk, and not the bytes
        return MachineError(f"{path}: cannot be read: {error.strerror}")
    reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    return InputError(
        f"{path}: this looks like {form.name}, but cannot be read as such: {reason}. It may be cut short or damaged "
        f"(download it again?), or of another kind; {_EXPECTED}"
    )


def _read_tensorflow(prefix: Path) -> dict[str, Tensor]:
    """The variables by name. Source: ``tf.train.load_checkpoint``; the format: tensorflow/core/util/tensor_bundle."""
    if not _index(prefix).read_bytes().endswith(_TABLE_END):
        raise ValueError("its .index file has not the end that TensorFlow writes")
    reader = _tensorflow(prefix).train.load_checkpoint(str(prefix))
    names = reader.get_variable_to_shape_map()
    arrays = {name: np.array(reader.get_tensor(name)) for name in sorted(names) if _is_weight(name, names)}
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind != "O"}  # O: text


def _is_weight(name: str, names: Container[str]) -> bool:
    """Whether a variable is none of an optimizer: those hang below a variable (``.../w/Adam``) or have fixed names."""
    parent, _, leaf = name.rpartition("/")
    return parent not in names and leaf not in _TRAINING


def _tensorflow(prefix: Path) -> ModuleType:
    try:
        return importlib.import_module("tensorflow")
    except Exception as error:  # a broken installation raises anything
        raise MachineError(
            f"{prefix}: a TensorFlow checkpoint is read by the library tensorflow, which cannot be imported ({error}); "
            "pip install tensorflow-cpu, or convert the checkpoint to safetensors where it is installed"
        ) from error


_FORMATS = (
    _Format("safetensors", _is_safetensors, _read_safetensors),
    _Format("PyTorch", looks_like_torch, read_torch),
    _Format("pickle", looks_like_pickle, read_caffe2),
    _Format("Caffe", lambda head: looks_like_caffe(head) and not _is_text(head), read_caffe),
)
_TENSORFLOW = _Format("TensorFlow", lambda _head: False, _read_tensorflow)
