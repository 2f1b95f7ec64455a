"""Looking at the machine: what it has, and what networks it can run."""

import os
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from extract.backbones import BACKBONES, EMBEDDED, Backbone, BackboneSpec, ClipDefaults, backbone_spec, load_backbone
from extract.backbones.network import empty
from extract.download import cache_folder, cached
from extract.engine import has_amx, openvino_available, openvino_precisions, settle_device, settle_precision
from extract.video import decoding


def backbones_info(name: str | None = None) -> list[dict[str, Any]]:
    """Every backbone, or the one called ``name``. Raises UsageError when there is none of this name."""
    names = list(BACKBONES) if name is None else [name]
    return [_backbone_info(each, backbone_spec(each)) for each in names]


def _backbone_info(name: str, spec: BackboneSpec) -> dict[str, Any]:
    here = "in the package" if spec.embedded else cached(spec.url) if spec.url else None
    return {
        "name": name,
        "parameters": spec.parameters,
        "gmac": _gmac(name, spec) if spec.gmac is None else spec.gmac,
        "feature_width": spec.feature_width,
        "features": spec.layer,
        "input": "optical flow" if spec.channels == 2 else "boxes and RGB" if spec.detection else "RGB",
        "published": spec.published,
        "source": spec.source,
        "licence": spec.licence,
        "weights_url": spec.url,
        "weights_here": str(here) if here else None,
        "clips": _clips_info(spec.clips, spec.channels),
        "presets": {preset: _clips_info(clips, spec.channels) for preset, clips in spec.presets.items()},
    }


def _gmac(name: str, spec: BackboneSpec) -> float:
    clips = spec.clips
    return Backbone(name, spec, empty(spec.build)).multiply_adds(clips.clip_frames, clips.crop_px, clips.crop_px) / 1e9


def _clips_info(clips: ClipDefaults, channels: int) -> dict[str, Any]:
    return {**asdict(clips), "mean": list(clips.mean[:channels]), "std": list(clips.std[:channels])}


def machine_info() -> dict[str, Any]:
    """What an extraction on this machine can use. Sizes in GB."""
    device = settle_device("auto")
    return {
        "untrimmed": version("untrimmed"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "bfloat16_in_hardware": "yes (AMX)" if has_amx() else "no",
        "memory_gb": f"{_memory_gb('SC_PHYS_PAGES'):.1f}, {_memory_gb('SC_AVPHYS_PAGES'):.1f} free",
        "disk_gb": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} free in {Path.cwd()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu (torch sees no GPU)",
        "precision": f"auto means {settle_precision('auto', device)}",
        "libraries": {
            name: version(name) for name in ("torch", "torchvision", "zarr", "dask", "scikit-learn", "numpy")
        },
        "decoders": decoding()["decoders"],
        "codecs": decoding()["codecs"],
        "engines": _engines(),
        "weights": f"{EMBEDDED} {load_backbone(EMBEDDED).weights_sha256[:12]} (embedded)",
        "downloads": str(cache_folder()),
    }


def _engines() -> str:
    if not openvino_available():
        return "torch, compile (openvino: pip install openvino)"
    return f"torch, compile, openvino {version('openvino')} ({', '.join(openvino_precisions())})"


def _memory_gb(pages: str) -> float:
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") / 1e9
