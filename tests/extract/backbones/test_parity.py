"""Features and logits are those of the original networks; the weights come from files of every official format."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import parity
import pytest
import torch
from checkpoints import c3d_blob, caffe2_bytes, torch_bytes, v1_layer
from parity import FOLDERS, assert_near, backbone_name, needs_fixtures
from torch import Tensor, nn

from extract.backbones import Backbone, backbone_spec, checkpoint, insert_nonlocal, load_backbone, residual
from extract.backbones.anatomy import parameters

pytestmark = needs_fixtures
_EXPECTED = [
    (folder, file, manifest)
    for folder in FOLDERS
    for file, manifest in (
        ("expected.json", "manifest.json"),
        ("expected.pyslowfast.json", "manifest.pyslowfast.json"),
    )
    if (parity.FIXTURES / folder / file).is_file()
]
# Sizes and variants whose like is among the other cases.
_MORE_OUTPUTS = (
    "c3d_sports1m-manifest.json-3-native_16x112",
    "i3d_inception_rgb-manifest.json-4-t16_224",
    "i3d_inception_rgb-manifest.json-5-t16_224",
    "i3d_inception_rgb-manifest.json-9-native_64x224",
    "i3d_nln_r50-manifest.json-2-full_256",
    "i3d_r50-manifest.json-2-full_256",
    "slow_r50_8x8-manifest.json-2-full_256",
    "slowfast_r50_detection-manifest.json-3-crop_224_aligned",
)
_MORE_FORMATS = (
    "slow_r50_4x16",
    "slow_r50_detection",
    "slowfast_r101_16x8_50_50",
    "slowfast_r101_8x8",
    "slowfast_r50_4x16",
)


def _named(*values: Any, name: str, more: bool) -> Any:
    return pytest.param(*values, id=name, marks=[pytest.mark.more] if more else [])


_CASES = [
    _named(folder, manifest, case, name=name, more=name in _MORE_OUTPUTS)
    for folder, file, manifest in _EXPECTED
    for number, case in enumerate(parity.read(folder, file)["cases"])
    for name in [f"{folder}-{manifest}-{number}-{case['name']}"]
    if "dot_product" not in case["name"]
    # what the ports do differently, the quick sizes show
    and (case["name"] != "native_64x224" or case["port"] == "piergiaj")
]


@pytest.fixture(autouse=True)
def nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Translated checkpoints would be gigabytes that nobody reads again: where the cache should be, there is a file."""
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("UNTRIMMED_CACHE", str(tmp_path / "no-folder"))


def torch_file(path: Path, state: dict[str, Tensor], wrapper: str | None) -> Path:
    path.write_bytes(torch_bytes(state if wrapper is None else {wrapper: state, "epoch": 3}))
    return path


def canonical_file(folder: str, path: Path, manifest: str = "manifest.json") -> Path:
    wrapper = "model_state" if "model_state" in str(parity.read(folder, manifest)["wrapper_key"]) else None
    return torch_file(path, parity.weights(folder, manifest), wrapper)


def variant(folder: str, case: dict[str, Any]) -> str:
    """The backbone that computes as the case's reference does."""
    name = backbone_name(folder)
    if case.get("pool5") == "pad":
        return f"{name}:pad"
    if case.get("roi_align", {}).get("aligned"):
        return f"{name}:aligned"
    return name if case.get("port", "piergiaj") == "piergiaj" else f"{name}:{case['port']}"


def answers(backbone: Backbone, clips: Tensor, boxes: Tensor | None) -> dict[str, Callable[[], Tensor]]:
    return {
        "features": lambda: backbone.features(clips, boxes),
        "logits": lambda: backbone.logits(clips, boxes),
        "conv5b_global_mean": lambda: backbone.features(clips, layer="body.conv5b"),
        "fc6": lambda: backbone.features(clips, layer="fc6"),
        "fc7": lambda: backbone.features(clips, layer="fc7"),
        "mixed_5c_global_mean": lambda: backbone.maps(clips).mean((2, 3, 4)),
    }


@pytest.mark.parametrize(("folder", "manifest", "case"), _CASES)
def test_outputs(folder: str, manifest: str, case: dict[str, Any], tmp_path: Path) -> None:
    backbone = load_backbone(variant(folder, case), canonical_file(folder, tmp_path / "w.pth", manifest))
    clips = parity.clip(case["input"]["shape"])
    boxes = torch.tensor(case["input"]["boxes"]) if "boxes" in case["input"] else None
    compared = 0
    for key, ask in answers(backbone, clips, boxes).items():
        if key in case["outputs"]:
            assert_near(ask(), case["outputs"][key], f"{case['name']} {key}")
            compared += 1
    assert compared


def test_dot_product_nonlocal() -> None:
    (case,) = (c for c in parity.read("i3d_nln_r50", "expected.json")["cases"] if "dot_product" in c["name"])
    network = residual.i3d()
    where = ["body.res3.1", "body.res3.3", "body.res4.1", "body.res4.3", "body.res4.5"]
    insert_nonlocal(network, where, instantiation="dot_product")
    tensors = parity.weights("i3d_nln_r50", nonlocal_gain=case["nonlocal_gain"])
    state = checkpoint._translated({name: t for name, t in tensors.items() if not name.endswith("batches_tracked")})
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    backbone = Backbone("i3d_nln_r50", backbone_spec("i3d_nln_r50"), network)
    clips = parity.clip(case["input"]["shape"])
    assert_near(backbone.features(clips), case["outputs"]["features"], "features")
    assert_near(backbone.logits(clips), case["outputs"]["logits"], "logits")


def caffe2_file(folder: str, path: Path) -> Path:
    manifest = "manifest.pyslowfast.json"
    manifest = manifest if (parity.FIXTURES / folder / manifest).is_file() else "manifest.json"
    state = parity.weights(folder, manifest)
    blobs = {blob: state[name].numpy() for blob, name in parity.read(folder, "keymap.caffe2.json")["keymap"]}
    blobs |= {"conv1_w_momentum": np.zeros(3, np.float32), "lr": np.ones(1, np.float32)}
    path.write_bytes(caffe2_bytes(blobs))
    return path


def caffe_file(folder: str, path: Path) -> Path:
    state = parity.weights(folder)
    layers: dict[str, list[bytes]] = {}
    for blob, name in parity.read(folder, "keymap.caffe.json")["keymap"]:
        layers.setdefault(blob.partition("[")[0], []).append(c3d_blob(state[name].numpy()))
    path.write_bytes(b"".join(v1_layer(n, 14 if n.startswith("fc") else 30, *blobs) for n, blobs in layers.items()))
    return path


def tensorflow_tensors(folder: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Variables as TensorFlow has them, and the canonical tensors that they mean: without gamma, norms weigh one."""
    state = parity.weights(folder)
    state |= {name: torch.ones_like(t) for name, t in state.items() if name.endswith("batch3d.weight")}
    variables = {}
    for variable, name, how, shape in parity.read(folder, "keymap.tensorflow.json")["variables"]:
        kernel = how.startswith("transpose")
        variables[variable] = (state[name].permute(2, 3, 4, 1, 0) if kernel else state[name]).reshape(json.loads(shape))
    return variables, state


def _other_formats() -> list[Any]:
    found = []
    for folder in FOLDERS:
        for file in sorted((parity.FIXTURES / folder).iterdir()):
            kind = file.name.removesuffix(".json")
            if kind not in ("manifest", "expected", "expected.pyslowfast") and not (
                kind == "manifest.pyslowfast" and folder.startswith("x3d")  # another network: its outputs are compared
            ):
                found.append(_named(folder, kind, name=f"{folder}-{kind}", more=folder in _MORE_FORMATS))
    return found


@pytest.mark.parametrize(("folder", "kind"), _other_formats())
def test_every_format_gives_the_same_network(
    folder: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal to the canonical file's weights to the last bit, so to its outputs."""
    name = backbone_name(folder)
    if kind == "keymap.caffe2":
        given = caffe2_file(folder, tmp_path / "w.pkl")
    elif kind == "keymap.caffe":
        given = caffe_file(folder, tmp_path / "conv3d_deepnetA_sport1m_iter_1900000")
    elif kind == "keymap.tensorflow":
        variables, state = tensorflow_tensors(folder)
        wanted = load_backbone(name, torch_file(tmp_path / "canonical.pth", state, None)).weights_sha256
        given = tmp_path / "model.ckpt"
        monkeypatch.setattr(checkpoint, "read_tensors", {given: variables}.__getitem__)
    else:
        wrapper = "model_state" if "slowfast" in kind else "state_dict" if "mmaction2" in kind else None
        given = torch_file(tmp_path / "w.pth", parity.weights(folder, f"{kind}.json"), wrapper)
    loaded = load_backbone(name, given)
    if kind != "keymap.tensorflow":
        wanted = canonical_digest(folder, headless=isinstance(loaded.network.classifier, nn.Identity))
    assert loaded.weights_sha256 == wanted


@lru_cache(maxsize=1)
def canonical_digest(folder: str, *, headless: bool) -> str:
    """Of the canonical file's weights; ``headless``: but for the last layer, which not every file has."""
    name = backbone_name(folder)
    with TemporaryDirectory() as place:
        backbone = load_backbone(name, canonical_file(folder, Path(place) / "canonical.pth"))
    if headless:
        backbone.network.classifier = nn.Identity()
        backbone = Backbone(name, backbone.spec, backbone.network)
    return backbone.weights_sha256


@pytest.mark.parametrize("folder", FOLDERS)
def test_parameters_are_the_originals(folder: str) -> None:
    name = backbone_name(folder)
    with torch.device("meta"):
        network = backbone_spec(name).build()
    assert parameters(network) == parity.read(folder, "manifest.json")["n_params"] == backbone_spec(name).parameters
