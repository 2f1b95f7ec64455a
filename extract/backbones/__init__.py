"""Frozen networks from clips to features, by name, with the clip recipe that each was trained for."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from extract.backbones.tiny import FEATURE_WIDTH, TinyR2Plus1D
from extract.errors import InputError, UsageError

EMBEDDED = "tiny_r2plus1d"


@dataclass(frozen=True, slots=True)
class ClipDefaults:
    """What a backbone's clips are, unless the user asks otherwise. Rates in samples per second, sizes in pixels.

    ``mean`` and ``std`` are per RGB channel, of pixels in 0..1.
    """

    clip_frames: int
    frame_stride: int
    hop: int
    fps: float
    short_side_px: int
    crop_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One backbone: ``build()`` makes the network with random weights; it has ``features`` and ``forward``."""

    build: Callable[[], "TinyR2Plus1D"]
    feature_width: int
    layer: str
    clips: ClipDefaults
    embedded: bool
    licence: str
    source: str
    about: str


def _tiny_r2plus1d() -> TinyR2Plus1D:
    return TinyR2Plus1D(classes=17)


BACKBONES: dict[str, BackboneSpec] = {
    EMBEDDED: BackboneSpec(
        build=_tiny_r2plus1d,
        feature_width=FEATURE_WIDTH,
        layer="blocks",
        clips=ClipDefaults(16, 1, 8, 10.0, 112, 112, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
        embedded=True,
        licence="Apache-2.0",
        source="trained by pipelines.pretrain on this project's synthetic motion worlds",
        about="16 verbs of synthetic motion worlds; see its card",
    ),
}


class Backbone:
    """A frozen network in eval mode, without gradients.

    Attributes:
        name: its name in ``BACKBONES``.
        spec: its description.
        weights_sha256: digest of all tensors (names, shapes, bytes), whatever file they came from.
        network: the torch module.
    """

    def __init__(self, name: str, network: TinyR2Plus1D) -> None:
        self.name, self.spec = name, BACKBONES[name]
        self.network = network.eval().requires_grad_(False)
        self.weights_sha256 = _digest(network)

    def features(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) float32, normalised -> (B, D), the input of the last linear layer.

        Raises:
            UsageError: another number of dimensions or channels.
        """
        self._check(clips)
        with torch.inference_mode():
            return self.network.features(clips)

    def logits(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) float32, normalised -> (B, K), before any activation."""
        self._check(clips)
        with torch.inference_mode():
            logits: Tensor = self.network(clips)
        return logits

    def _check(self, clips: Tensor) -> None:
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise UsageError(f"clips have shape {tuple(clips.shape)}; expected (B, 3, T, H, W)")


def load_backbone(name: str = EMBEDDED, weights: str | Path = "embedded") -> Backbone:
    """The backbone ``name`` with ``weights``: "embedded", a safetensors file, or "random:SEED".

    Raises:
        UsageError: an unknown name, or weights that this backbone does not have.
        InputError: a weights file that is missing, broken, or of another network.
    """
    if name not in BACKBONES:
        raise UsageError(f"no backbone called {name!r}; expected one of {', '.join(BACKBONES)}")
    text = str(weights)
    if text.startswith("random:"):
        return Backbone(name, _random(name, text.removeprefix("random:")))
    network = BACKBONES[name].build()
    if text == "embedded":
        with as_file(files("extract.backbones") / "weights" / f"{name}.safetensors") as path:
            _load(network, path, name)
    elif text == "pretrained" or "://" in text:
        raise UsageError(
            f"--weights {text}: {name} is not downloaded; expected embedded, a .safetensors file, or random:SEED"
        )
    else:
        _load(network, Path(text), name)
    return Backbone(name, network)


def _random(name: str, seed: str) -> TinyR2Plus1D:
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise UsageError(
            f"--weights random:{seed}: the seed is not a whole number below 2**63; write for example random:0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return BACKBONES[name].build()


def _load(network: nn.Module, path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(f"no weights file {path}; expected a .safetensors file of {name}, or --weights embedded")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}); expected weights of {name}") from error
    wanted = network.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        raise InputError(
            f"{path} holds weights of another network than {name}: "
            f"missing {missing[:5] or 'nothing'}, unexpected {extra[:5] or 'nothing'}"
        )
    wrong = [key for key in wanted if wanted[key].shape != state[key].shape]
    if wrong:
        raise InputError(
            f"{path}: {wrong[0]} has shape {tuple(state[wrong[0]].shape)}, {name} has {tuple(wanted[wrong[0]].shape)}"
        )
    network.load_state_dict(state)


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
