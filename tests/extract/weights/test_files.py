import collections
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import (
    c3d_blob,
    caffe2_bytes,
    chunk,
    floats,
    new_layer,
    number,
    torch_bytes,
    v1_layer,
    varint,
)
from torch import Tensor

from extract.errors import InputError, MachineError
from extract.weights import _caffe
from extract.weights.files import read_tensors

KEYMAP = Path(__file__).parents[3].parent / "shared/fixtures/backbones/c3d_sports1m/keymap.caffe.json"
TABLE_END = bytes.fromhex("57fb808b247547db")
Layout = dict[str, Any]


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def state() -> dict[str, Tensor]:
    return {"z.weight": torch.tensor(some(2, 3, 1, 3, 3)), "a.bias": torch.tensor(some(3)), "a.n": torch.tensor(7)}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        assert type(got[name]) is Tensor
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape), name
        assert got[name].device.type == "cpu"
        assert not got[name].requires_grad
        assert got[name].numpy().tobytes() == tensor.detach().numpy().tobytes(), name


def c3d_state() -> dict[str, np.ndarray]:
    return {
        "conv1a[0]": some(4, 3, 3, 3, 3),
        "conv1a[1]": some(4),
        "fc6-1[0]": some(6, 8),
        "fc6-1[1]": some(6),
    }


def c3d_bytes(**how: bool) -> bytes:
    blobs = {name: c3d_blob(values, **how) for name, values in c3d_state().items()}
    return (
        chunk(1, b"DeepConv3DNet_Sport1M")
        + v1_layer("data", 33)
        + v1_layer("conv1a", 30, blobs["conv1a[0]"], blobs["conv1a[1]"])
        + v1_layer("relu1a", 18)
        + v1_layer("fc6-1", 14, blobs["fc6-1[0]"], blobs["fc6-1[1]"])
    )


WHOLE: dict[str, bytes] = {
    "safetensors": safetensors.torch.save(state()),
    "torch zip": torch_bytes({"model_state": state()}),
    "torch legacy": torch_bytes({"model_state": state()}, legacy=True),
    "caffe2": caffe2_bytes({"conv1_w": some(2, 3, 3), "pred_b": some(4)}),
    "caffe": c3d_bytes(),
}


# safetensors


def test_safetensors_in_file_order_under_any_suffix(tmp_path: Path) -> None:
    path = written(tmp_path / "weights.pth", WHOLE["safetensors"])
    with safetensors.safe_open(path, "pt") as file:
        order = file.offset_keys()
    assert_equal(read_tensors(path), {name: state()[name] for name in order})


def test_safetensors_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no tensors"):
        read_tensors(written(tmp_path / "x", safetensors.torch.save({})))


# PyTorch


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl", ""])
@pytest.mark.parametrize("wrapper", [None, "model_state", "state_dict", "model"])
def test_torch_unwrapped(tmp_path: Path, wrapper: str | None, suffix: str, legacy: bool) -> None:
    rest = {"epoch": 3, "optimizer_state": {"state": {0: {"m": torch.ones(2)}}}, "cfg": "A: 1", "meta": {"t": "x"}}
    content = {**rest, wrapper: state()} if wrapper else collections.OrderedDict(state())
    assert_equal(read_tensors(written(tmp_path / f"w{suffix}", torch_bytes(content, legacy=legacy))), state())


def test_torch_parameters_become_tensors(tmp_path: Path) -> None:
    content = {"w": torch.nn.Parameter(torch.ones(2)), "version": 1}
    assert_equal(read_tensors(written(tmp_path / "w", torch_bytes(content))), {"w": torch.ones(2)})


@pytest.mark.parametrize("content", [{"epoch": 3, "net": state()}, {"net": state(), "n": torch.ones(1)}, {"epoch": 3}])
def test_torch_without_a_state_dict_names_its_entries(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match=r"no state dict under model_state.*the entries are '(epoch|net)'"):
        read_tensors(written(tmp_path / "w.pt", torch_bytes(content)))


def test_torch_bare_tensor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it holds a Tensor, no state dict"):
        read_tensors(written(tmp_path / "w.pt", torch_bytes(torch.ones(2))))


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_whole_module_is_refused_by_name(tmp_path: Path, legacy: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the source code that the older format keeps
        content = torch_bytes(torch.nn.Linear(2, 2), legacy=legacy)
    with pytest.raises(InputError, match=r"wants to build torch\.nn\.\S+Linear.*refused.*run code.*to safetensors"):
        read_tensors(written(tmp_path / "w.pt", content))


def test_other_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"looks like PyTorch, but cannot be read"):
        read_tensors(tmp_path / "w.zip")


def test_torch_advice_to_read_unsafely_is_not_passed_on(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state(), buffer, pickle_protocol=4)
    with pytest.raises(InputError, match="Unsupported operand") as caught:
        read_tensors(written(tmp_path / "w.pt", buffer.getvalue()))
    assert "weights_only" not in str(caught.value)


# Caffe2


def test_caffe2_of_python_2(tmp_path: Path) -> None:
    fortran = np.asfortranarray(some(3, 4))
    big = some(5).astype(">f4")
    blobs: dict[str, np.ndarray | bytes] = {
        "t_conv1_w": some(4, 3, 1, 2, 2),
        "double": some(3).astype(np.float64),
        "half": some(3).astype(np.float16),
        "order": fortran,
        "big": big,
        "empty": np.empty((0, 2), np.float32),
        "steps": np.arange(3, dtype=np.int64),
        "text": b"hello",
        "conv1_w_momentum": some(4),
        "lr": some(1),
        "model_iter": np.arange(1),
    }
    kept = {name: blob for name, blob in blobs.items() if isinstance(blob, np.ndarray)}
    expected = {
        name: torch.tensor(blob.astype(np.float32, order="C") if blob.dtype.kind == "f" else blob)
        for name, blob in list(kept.items())[:-3]
    }
    assert_equal(read_tensors(written(tmp_path / "c2.pkl", caffe2_bytes(blobs))), expected)


@pytest.mark.parametrize("protocol", range(6))
def test_caffe2_written_again_by_python_3(tmp_path: Path, protocol: int) -> None:
    blobs = {"w": some(2, 3), "f": np.asfortranarray(some(3, 4)), "scalar": np.float32(2), "o": np.array([{}, None])}
    content = pickle.dumps({"blobs": collections.OrderedDict(blobs)}, protocol)
    expected = {"w": torch.tensor(some(2, 3)), "f": torch.tensor(some(3, 4))}
    assert_equal(read_tensors(written(tmp_path / "c2.pkl", content)), expected)


def test_caffe2_names_of_old_and_new_numpy(tmp_path: Path) -> None:
    content = pickle.dumps({"blobs": {"w": some(2)}}, 2)
    assert b"numpy._core.multiarray" in content
    for names in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        changed = content.replace(b"numpy._core.multiarray", names)
        assert_equal(read_tensors(written(tmp_path / "c2", changed)), {"w": torch.tensor(some(2))})


@pytest.mark.parametrize("content", [[1], {"a": 1}, {"blobs": 3}, 4, {"a": np.ones(2)}, np.ones(2)])
def test_pickle_of_another_shape(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match=r"it holds a .*, not Caffe2's dictionary with 'blobs'"):
        read_tensors(written(tmp_path / "c2.pkl", pickle.dumps(content, 2)))


@pytest.mark.parametrize(
    ("opcodes", "name"),
    [
        (b"cbuiltins\neval\nU\x011\x85R", "builtins.eval"),
        (b"c__builtin__\ngetattr\nU\x011\x85R", "__builtin__.getattr"),
        (b"cnumpy\nload\nU\x011\x85R", "numpy.load"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "torch._utils._rebuild_tensor_v2"),
        (b"cnumpy\nndarray.tofile\n)R", "numpy.ndarray.tofile"),
    ],
)
def test_pickle_with_another_class_is_refused_by_name(tmp_path: Path, opcodes: bytes, name: str) -> None:
    with pytest.raises(InputError, match=f"wants to build {name}, which was refused"):
        read_tensors(written(tmp_path / "c2.pkl", b"\x80\x02}U\x05blobs}U\x01a" + opcodes + b"ss."))


@pytest.mark.parametrize(
    "value",
    [
        b"cnumpy\nndarray\nK\x01K\x02K\x03K\x04K\x05tR",  # arguments of no array
        b"cnumpy\nndarray\n)\x81",  # no content
        b"cnumpy\ndtype\nN\x85R",
        b"cnumpy\nndarray\n}U\x01aU\x01bsb",  # sets an attribute of the class
        b"c_codecs\nencode\n}U\x0c__defaults__NsN\x86b",  # sets one of a function
        b"c_codecs\nencode\nU\x01aU\x04zlib\x86R",
        b"cnumpy.core.multiarray\n_reconstruct\n)RK\x01b",
    ],
)
def test_pickle_that_misuses_what_it_may_name(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(InputError):
        read_tensors(written(tmp_path / "c2.pkl", b"\x80\x02}U\x05blobs}U\x01a" + value + b"ss."))


@pytest.mark.parametrize("shape", [(3,), (-1,), (2**31 - 1,), (2**31 - 1,) * 4])
def test_caffe2_array_of_another_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    sizes = b"".join(b"J" + struct.pack("<i", size) for size in shape)
    content = caffe2_bytes({"w": some(2)}).replace(b"J\x02\0\0\0t", sizes + b"t")
    with pytest.raises(InputError, match=r"an array of shape .* has 2 values"):
        read_tensors(written(tmp_path / "c2.pkl", content))


# No code of a file runs


class _Bomb:
    """Pickled, it asks for ``os.system``."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def bombs(target: Path) -> dict[str, bytes]:
    bomb = _Bomb(target)
    return {
        "torch zip": torch_bytes({"a": torch.ones(1), "b": bomb}),
        "torch legacy": torch_bytes({"a": torch.ones(1), "b": bomb}, legacy=True),
        **{f"pickle {protocol}": pickle.dumps({"blobs": {"a": bomb}}, protocol) for protocol in range(6)},
        "pickle bare": f"cos\nsystem\n(S'touch {target}'\ntR.".encode(),
        "pickle of Python 2": b"\x80\x02}U\x05blobs}U\x01acos\nsystem\nU"
        + bytes([len(f"touch {target}")])
        + f"touch {target}".encode()
        + b"\x85Rss.",
    }


@pytest.mark.parametrize("name", list(bombs(Path("x"))))
def test_code_in_a_pickle_does_not_run(tmp_path: Path, name: str) -> None:
    target = tmp_path / "ran"
    path = written(tmp_path / "w.pkl", bombs(target)[name])
    with pytest.raises(InputError, match=r"wants to build (os|posix|nt)\.system, which was refused.*safetensors"):
        read_tensors(path)
    assert not target.exists()
    if name.startswith("pickle"):  # and it would run if let
        pickle.loads(path.read_bytes(), encoding="latin1")
        assert target.exists()


# Caffe


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("diff", [True, False])
def test_c3d(tmp_path: Path, packed: bool, diff: bool) -> None:
    path = written(tmp_path / "conv3d_deepnetA_sport1m_iter_1900000", c3d_bytes(packed=packed, diff=diff))
    assert_equal(read_tensors(path), {name: torch.tensor(values) for name, values in c3d_state().items()})


@pytest.mark.skipif(not KEYMAP.exists(), reason="the fixtures are not on this machine")
def test_c3d_names_are_those_of_the_fixture(tmp_path: Path) -> None:
    keys = [caffe for caffe, _ in json.loads(KEYMAP.read_text())["keymap"]]
    layers = [key.removesuffix("[0]") for key in keys[::2]]
    content = b"".join(v1_layer(name, 30, c3d_blob(some(2, 1, 3, 3, 3)), c3d_blob(some(2))) for name in layers)
    assert list(read_tensors(written(tmp_path / "c3d", content))) == keys


def test_c3d_layers_of_one_output_keep_their_dimensions(tmp_path: Path) -> None:
    content = v1_layer("fc", 14, c3d_blob(some(1, 3)), c3d_blob(some(1)))
    content += v1_layer("conv", 30, c3d_blob(some(1, 1, 1, 3, 3)), c3d_blob(some(1)))
    shapes = {name: tuple(tensor.shape) for name, tensor in read_tensors(written(tmp_path / "c", content)).items()}
    assert shapes == {"fc[0]": (1, 3), "fc[1]": (1,), "conv[0]": (1, 1, 1, 3, 3), "conv[1]": (1,)}


def test_c3d_without_a_length_has_one_frame(tmp_path: Path) -> None:
    blob = number(1, 2) + number(2, 3) + number(4, 4) + number(5, 4) + floats(6, some(2, 3, 1, 4, 4))
    tensors = read_tensors(written(tmp_path / "c", v1_layer("conv", 4, blob)))
    assert_equal(tensors, {"conv[0]": torch.tensor(some(2, 3, 1, 4, 4))})


@pytest.mark.parametrize("packed", [True, False])
def test_caffe_of_four_dimensions(tmp_path: Path, packed: bool) -> None:
    def blob(values: np.ndarray) -> bytes:
        sizes = (1,) * (4 - values.ndim) + values.shape
        head = b"".join(number(field, size) for field, size in enumerate(sizes, start=1))
        return head + floats(5, values, packed=packed) + floats(6, values * 2, packed=packed)

    content = v1_layer("conv", 4, blob(some(2, 3, 5, 5)), blob(some(2))) + v1_layer("fc", 14, blob(some(4, 3)))
    expected = {"conv[0]": some(2, 3, 5, 5), "conv[1]": some(2), "fc[0]": some(4, 3)}
    assert_equal(read_tensors(written(tmp_path / "c", content)), {k: torch.tensor(v) for k, v in expected.items()})


@pytest.mark.parametrize("packed", [True, False])
def test_caffe_layer_of_today(tmp_path: Path, packed: bool) -> None:
    def shape(sizes: tuple[int, ...]) -> bytes:
        return chunk(1, b"".join(map(varint, sizes))) if packed else b"".join(number(1, size) for size in sizes)

    def blob(values: np.ndarray) -> bytes:
        return floats(5, values, packed=packed) + chunk(7, shape(values.shape))

    double = chunk(7, shape((2,))) + chunk(8, np.array([0.5, 3]).tobytes())
    content = chunk(1, b"net") + new_layer("conv", "Convolution", blob(some(1, 3, 300, 1, 1)), blob(some(1)))
    content += new_layer("bn", "BatchNorm", blob(some(2)), double)
    expected = {"conv[0]": some(1, 3, 300, 1, 1), "conv[1]": some(1), "bn[0]": some(2), "bn[1]": np.array([0.5, 3])}
    wanted = {name: torch.tensor(values, dtype=torch.float32) for name, values in expected.items()}
    assert_equal(read_tensors(written(tmp_path / "c", content)), wanted)


def test_caffe_floats_in_several_pieces(tmp_path: Path) -> None:
    values = some(300)
    blob = b"".join(number(field, size) for field, size in enumerate((1, 1, 1, 1, 300), start=1))
    blob += floats(6, values[:100]) + floats(6, values[100:233], packed=False) + floats(6, values[233:])
    tensors = read_tensors(written(tmp_path / "c", v1_layer("scale", 99, blob)))
    assert_equal(tensors, {"scale[0]": torch.tensor(values)})


def test_caffe_result_outlives_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "c", c3d_bytes())
    tensors = read_tensors(path)
    path.write_bytes(b"")
    tensors["fc6-1[1]"].add_(1)
    assert tensors["fc6-1[1]"].numpy() == pytest.approx(some(6) + 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (chunk(1, b"net") + v1_layer("data", 33), "no layer in it has weights"),
        (v1_layer("c", 4, number(1, 2) + number(5, 2) + floats(6, some(3))), r"c\[0\] of shape .* has 3 values"),
        (v1_layer("c", 4, number(1, -1) + number(5, 2) + floats(6, some(3))), r"c\[0\] of shape"),
        (v1_layer("c", 4, c3d_blob(some(2))) * 2, "two layers have weights under the name 'c'"),
        (v1_layer("c", 4, number(5, 1) + chunk(6, b"12345")), "multiple of element size"),
        (v1_layer("c", 4, b""), r"c\[0\] of shape"),
        (b"\x0a\x03net\x13\x14", "begins no field that Caffe has"),
        (b"\x0a\x03net\x02\x01x", "field 0"),
        (b"\x0a\x03net\x12" + b"\xff" * 11, "has no end"),
        (v1_layer("c\xff", 4).replace("ÿ".encode(), b"\xff\xfe"), "can't decode"),
    ],
)
def test_caffe_that_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"looks like Caffe, but cannot be read as such: .*{reason}"):
        read_tensors(written(tmp_path / "c", content))


def test_runs_of_unpacked_floats_end_where_the_tag_changes() -> None:
    for count in (1, 63, 64, 65, 129, 1000):
        content = floats(6, some(count), packed=False) + floats(7, some(3), packed=False)
        assert _caffe._end_of_floats(memoryview(content), 0) == 5 * count
        assert _caffe._end_of_floats(memoryview(content), 5 * count) == len(content)


# TensorFlow


class _Reader:
    """Stands in for TensorFlow's checkpoint reader."""

    variables = {  # noqa: RUF012 (never changed)
        "RGB/Conv3d_1a_7x7/conv_3d/w": some(2, 2, 2, 3, 4),
        "RGB/Conv3d_1a_7x7/conv_3d/w/Adam_1": some(2),
        "RGB/Conv3d_1a_7x7/batch_norm/beta": some(1, 4),
        "RGB/Conv3d_1a_7x7/conv_3d/w/Momentum": some(2),
        "RGB/scalar": np.float32(3),
        "RGB/text": np.array([b"x"], dtype=object),
        "global_step": np.int64(5),
        "beta1_power": np.float32(5),
    }

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {name: list(np.shape(value)) for name, value in self.variables.items()}

    def get_tensor(self, name: str) -> Any:
        return self.variables[name]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    written(tmp_path / "model.ckpt.index", b"table" + TABLE_END)
    written(tmp_path / "model.ckpt.data-00000-of-00001", b"\x01\x02")
    return tmp_path / "model.ckpt"


def fake_tensorflow(monkeypatch: pytest.MonkeyPatch, load: Callable[[str], object]) -> None:
    module = types.ModuleType("tensorflow")
    module.train = types.SimpleNamespace(load_checkpoint=load)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", module)


@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_tensorflow_by_any_of_its_paths(prefix: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    asked: list[str] = []
    fake_tensorflow(monkeypatch, lambda path: asked.append(path) or _Reader())
    tensors = read_tensors(Path(f"{prefix}{suffix}"))
    kept = ("RGB/Conv3d_1a_7x7/batch_norm/beta", "RGB/Conv3d_1a_7x7/conv_3d/w", "RGB/scalar")
    assert_equal(tensors, {name: torch.tensor(_Reader.variables[name]) for name in kept})
    assert asked == [str(prefix)]


def test_tensorflow_missing(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MachineError, match=r"model\.ckpt: .*pip install tensorflow-cpu, or convert"):
        read_tensors(prefix)


def test_tensorflow_complaint(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str) -> object:
        raise RuntimeError("Read less bytes than requested")

    fake_tensorflow(monkeypatch, load)
    with pytest.raises(InputError, match="looks like TensorFlow, but cannot be read as such: Read less bytes"):
        read_tensors(prefix)


@pytest.mark.parametrize("content", [b"", b"<html>", b"table" + TABLE_END[:-1]])
def test_tensorflow_index_that_is_none(prefix: Path, content: bytes) -> None:
    written(Path(f"{prefix}.index"), content)
    with pytest.raises(InputError, match="has not the end that TensorFlow writes"):
        read_tensors(prefix)


def test_tensorflow_data_without_index(prefix: Path) -> None:
    Path(f"{prefix}.index").unlink()
    with pytest.raises(InputError, match=r"without its model\.ckpt\.index; expected"):
        read_tensors(Path(f"{prefix}.data-00000-of-00001"))
    with pytest.raises(InputError, match="there is no such file"):
        read_tensors(prefix)


def test_a_file_is_read_for_itself_beside_an_index(prefix: Path) -> None:
    assert_equal(read_tensors(written(prefix, WHOLE["torch zip"])), state())


@pytest.mark.filterwarnings("ignore")  # of TensorFlow itself
def test_tensorflow_itself(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    v1, values = tensorflow.compat.v1, some(2, 2, 2, 3, 4)
    with v1.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("RGB/conv_3d/w", initializer=values, use_resource=False)
        step = v1.train.get_or_create_global_step()
        train = v1.train.AdamOptimizer(0.0).minimize(tensorflow.reduce_sum(variable**2), global_step=step)
        session.run(v1.global_variables_initializer())
        session.run(train)
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    assert_equal(read_tensors(tmp_path / "model.ckpt"), {"RGB/conv_3d/w": torch.tensor(values)})
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    written(data, data.read_bytes()[:40])
    with pytest.raises(InputError, match="looks like TensorFlow, but cannot be read"):
        read_tensors(tmp_path / "model.ckpt")


# Damaged and foreign files


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, -1])
@pytest.mark.parametrize("name", list(WHOLE))
def test_truncated(tmp_path: Path, name: str, part: float) -> None:
    whole = WHOLE[name]
    path = written(tmp_path / "w", whole[: int(len(whole) * part) if part > 0 else -1])
    with pytest.raises(InputError, match=r"/w: this .*expected a checkpoint: safetensors"):
        read_tensors(path)


@pytest.mark.parametrize("name", list(WHOLE))
def test_damaged_files_raise_nothing_else(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(WHOLE[name])
        for at in rng.integers(0, min(len(damaged), 600), 3):
            damaged[at] = rng.integers(0, 256)
        try:
            read_tensors(written(tmp_path / "w", bytes(damaged)))
        except InputError as error:
            assert str(tmp_path / "w") in str(error)  # noqa: PT017 (damage may hit values alone)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (b"\n <!DOCTYPE html><html><body>404", "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"\nNot found\n", "text ('Not found"),
        ("é".encode() * 3000, "text ('é"),
        (b'{"error": "no"}', "text ("),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01", "a numpy array"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (bytes(100), "binary data of another kind (it begins with 00 00"),
        (b"\xff\xd8\xff\xe0", "binary data of another kind (it begins with ff d8 ff e0)"),
    ],
)
def test_foreign(tmp_path: Path, content: bytes, looks: str) -> None:
    with pytest.raises(InputError) as caught:
        read_tensors(written(tmp_path / "w.pth", content))
    assert str(caught.value).startswith(f"{tmp_path / 'w.pth'}: this looks like {looks}")
    assert "; expected a checkpoint: safetensors, PyTorch" in str(caught.value)


def test_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(written(tmp_path / "x", b"hello"), "x")
    with pytest.raises(InputError, match="binary data of another kind"):
        read_tensors(tmp_path / "w.tar")


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"w\.pth: there is no such file; expected"):
        read_tensors(tmp_path / "w.pth")
    with pytest.raises(InputError, match="this is a folder; expected"):
        read_tensors(tmp_path)
    with pytest.raises(InputError, match="this is a folder; expected"):
        read_tensors(Path())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="this is no regular file"):
        read_tensors(tmp_path / "pipe")


@pytest.mark.parametrize("operation", ["open", "load"])
def test_trouble_of_the_disk_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    path = written(tmp_path / "w", WHOLE["safetensors"])

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(*((Path, "open") if operation == "open" else (safetensors.torch, "load_file")), fail)
    with pytest.raises(MachineError, match="/w: cannot be read: Input/output error"):
        read_tensors(path)


def test_torch_leaves_out_what_mmengine_keeps_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.log, self.mean = np.ones(3), np.float64(2)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = buffers.__name__, "HistoryBuffer"
    buffers.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, buffers.__name__, buffers)
    content = torch_bytes({"message_hub": {"loss": HistoryBuffer()}, "state_dict": state()})
    for name in ("mmengine", "mmengine.logging", buffers.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert_equal(read_tensors(written(tmp_path / "w.pth", content)), state())
