"""Backbones with their weights: embedded, official, from a file or a URL, or random by a seed."""

from importlib.resources import as_file, files
from pathlib import Path

import torch

from extract.backbones.backbone import Backbone
from extract.backbones.catalogue import EMBEDDED, backbone_spec
from extract.backbones.checkpoint import network_from
from extract.backbones.described import described
from extract.backbones.spec import BackboneSpec
from extract.download import Progress, fetch, say_nothing
from extract.errors import UsageError


def load_backbone(
    name: str = EMBEDDED, weights: str | Path | None = None, *, on_progress: Progress = say_nothing
) -> Backbone:
    """The backbone ``name`` with ``weights``.

    Args:
        name: see `backbone_spec`.
        weights: "embedded"; "pretrained", its official checkpoint, downloaded once; a checkpoint file of any
            official format, or its http(s) URL; or "random:SEED". By default embedded where there are such, else
            pretrained.
        on_progress: hears of a download, in bytes.

    Raises:
        UsageError: an unknown name, or weights that this backbone does not have.
        InputError: a checkpoint that is missing, broken, or of another network.
        MachineError: a checkpoint that cannot be downloaded.
    """
    spec = backbone_spec(name)
    text = str(weights or default_weights(spec))
    if text.startswith("random:"):
        return _random(name, spec, text.removeprefix("random:"))
    if text == "embedded":
        if not spec.embedded:
            raise UsageError(f"--weights embedded: {name} does not travel in the package; {_instead(spec)}")
        with as_file(files("extract.backbones") / "weights" / f"{name}.safetensors") as path:
            return Backbone(name, spec, network_from(name, spec, path))
    path = weights_file(name, spec, text, on_progress=on_progress)
    return Backbone(name, described(name, spec, path), network_from(name, spec, path))


def _instead(spec: BackboneSpec) -> str:
    """Which weights there are."""
    named = [word for word, there in (("embedded", spec.embedded), ("pretrained", spec.url)) if there]
    return f"expected {', '.join([*named, 'a file, such as of `untrimmed pretrain`'])}, or random:0 to try it"


def default_weights(spec: BackboneSpec) -> str:
    """What is taken when no weights are named."""
    return "embedded" if spec.embedded else "pretrained"


def weights_file(name: str, spec: BackboneSpec, weights: str, *, on_progress: Progress = say_nothing) -> Path:
    """The local file of ``weights``, which are "pretrained", a URL or a path. Errors as `load_backbone`."""
    if weights == "pretrained":
        if not spec.url:
            raise UsageError(f"--weights pretrained: {name} has no official checkpoint; {_instead(spec)}")
        return fetch(spec.url, sha256_prefix=spec.sha256_prefix, on_progress=on_progress)
    return fetch(weights, on_progress=on_progress) if "://" in weights else Path(weights)


def is_named(weights: str) -> bool:
    """Whether ``weights`` are named by a word or a URL, and not by a path."""
    return weights in ("embedded", "pretrained") or weights.startswith("random:") or "://" in weights


def _random(name: str, spec: BackboneSpec, seed: str) -> Backbone:
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise UsageError(
            f"--weights random:{seed}: the seed is not a whole number below 2**63; write for example random:0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return Backbone(name, spec, spec.build())
