"""Looking at a store, and at the machine."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from extract.backbones import EMBEDDED, load_backbone
from extract.engine import has_amx, settle_device, settle_precision
from extract.store import FeatureStore
from extract.video import decoding


def store_info(path: str | Path) -> dict[str, Any]:
    """What the store at ``path`` holds. Raises StoreError when it is none."""
    store = FeatureStore.open(path)
    records = store.catalogue.values()
    return {
        "store": str(store.path),
        "videos": len(records),
        "clips": sum(record.rows for record in records),
        "video_s": sum(record.duration_s for record in records),
        "bytes": store.nbytes,
        "log_version": store.version,
        "recipe_digest": store.recipe_digest,
        "recipe": dict(store.recipe),
        "partial": sorted(record.video_id for record in records if record.status == "partial"),
        "failed": [
            {"video": video_id, "reason": failure.reason, "detail": failure.detail}
            for video_id, failure in sorted(store.failures.items())
        ],
    }


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
        "weights": f"{EMBEDDED} {load_backbone(EMBEDDED).weights_sha256[:12]} (embedded)",
    }


def _memory_gb(pages: str) -> float:
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") / 1e9
