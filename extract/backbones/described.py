"""Weights that say what they are: a safetensors file with the backbone's name, its clips and its classes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open

from extract.backbones.network import Network
from extract.backbones.spec import BackboneSpec, ClipDefaults
from extract.errors import InputError
from extract.flow import FlowSettings

_KEY = "untrimmed"


def described_bytes(
    network: Network, *, name: str, clips: ClipDefaults, classes: Sequence[str], flow: FlowSettings | None = None
) -> bytes:
    """What `load_backbone` reads as ``weights``, and knows ``clips``, ``classes`` and ``flow`` from."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    about: dict[str, Any] = {"backbone": name, "clips": asdict(clips), "classes": list(classes)}
    if flow is not None:
        about["flow"] = flow.model_dump()
    return safetensors.torch.save(state, {_KEY: json.dumps(about)})


def backbone_in(path: Path) -> str | None:
    """The name of the backbone whose weights ``path`` says it holds; None where it says nothing."""
    about = _about(path)
    return None if about is None else str(about["backbone"])


def described(name: str, spec: BackboneSpec, path: Path) -> BackboneSpec:
    """``spec`` with the clips, classes and flow that the weights ``path`` name, if they do.

    Raises:
        InputError: they are weights of another backbone.
    """
    about = _about(path)
    if about is None:
        return spec
    if about["backbone"] != name:
        raise InputError(
            f"{path} holds weights of {about['backbone']}, not of {name}; take --backbone {about['backbone']}"
        )
    clips: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in about["clips"].items()
    }
    return replace(
        spec,
        clips=ClipDefaults(**clips),
        classes=tuple(about["classes"]),
        flow=FlowSettings(**about["flow"]) if "flow" in about else None,
        source="trained by `untrimmed pretrain`",
    )


def _about(path: Path) -> dict[str, Any] | None:
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (OSError, SafetensorError):  # whoever reads the tensors says what is wrong
        return None
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found
