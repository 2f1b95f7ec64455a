"""Looking at a store, and at the machine."""

import os
import platform
import shutil
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from extract.backbones import BACKBONES, EMBEDDED, BackboneSpec, ClipDefaults, backbone_spec, load_backbone
from extract.download import cache_folder, cached
from extract.engine import has_amx, openvino_available, openvino_precisions, settle_device, settle_precision
from extract.store import FeatureStore
from extract.video import decoding
from pipelines.events import read_events


def store_info(path: str | Path) -> dict[str, Any]:
    """What the store at ``path`` holds. Raises StoreError when it is none."""
    store = FeatureStore.open(path)
    records = store.catalogue.values()
    return {
        "store": store.url,
        "videos": len(records),
        "clips": sum(record.rows for record in records),
        "rows": "boxes" if store.of_boxes else "clips",
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


def store_status(path: str | Path) -> dict[str, Any]:
    """How far the work on the store at ``path`` is. Raises StoreError when it is none."""
    store = FeatureStore.open(path)
    published = store.published
    jobs = store.jobs()
    return {
        "store": store.url,
        "videos": len(store),
        "clips": sum(record.rows for record in store.catalogue.values()),
        "rows": "boxes" if store.of_boxes else "clips",
        "begun": {video_id: sum(span.clips for span in spans) for video_id, spans in sorted(store.spans.items())},
        "failed": dict(Counter(failure.reason for failure in store.failures.values())),
        "log_version": store.version,
        "published_videos": published.videos,
        "published_clips": published.clips,
        "compacted_clips": store.compacted,
        "jobs": len(jobs),
        "last_job": _job_status(store, jobs[-1]) if jobs else None,
    }


def compact_store(path: str | Path, *, grace_hours: float) -> dict[str, Any]:
    """Publish, compact and collect garbage. Raises StoreError when there is no store, or it is damaged."""
    store = FeatureStore.open(path)
    clips = store.compact()
    collected = store.collect(grace_s=3600 * grace_hours)
    return {
        "store": store.url,
        "published_videos": store.published.videos,
        "published_clips": store.published.clips,
        "compacted_clips": clips,
        "deleted_objects": collected.objects,
        "deleted_bytes": collected.size_bytes,
    }


def _job_status(store: FeatureStore, job: str) -> dict[str, Any]:
    """What the events of ``job`` say."""
    plan: dict[str, Any] = {}
    units: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    failed = 0
    for last in read_events(store, job):
        failed += last["event"] == "failed"
        if last["event"] == "planned":
            plan = last
        elif last["event"] == "unit":
            units.append(last)
    heard = datetime.fromisoformat(last["time"])
    ended = last["event"] if last["event"] in ("finished", "stopped", "broken") else None
    worked_s = (heard - datetime.fromisoformat(plan["time"])).total_seconds() if plan else 0.0
    clips = sum(unit["clips"] for unit in units)
    return {
        "job": job,
        "state": ended or "running, or died",
        "error": last.get("error"),
        "host": plan.get("host"),
        "pid": plan.get("pid"),
        "last_heard_s": (datetime.now(UTC) - heard).total_seconds(),
        "units": len(units),
        "units_planned": plan.get("units", 0),
        "videos_planned": plan.get("videos", 0),
        "clips": clips,
        "clips_planned": plan.get("clips", 0),
        "failed": failed,
        "predicted_s": plan.get("predicted_s"),
        "worked_s": worked_s,
        "clips_per_s": clips / worked_s if worked_s else 0.0,
        "busy_s": {stage: sum(unit[f"{stage}_s"] for unit in units) for stage in ("decode", "model", "store")},
    }


def backbones_info(name: str | None = None) -> list[dict[str, Any]]:
    """Every backbone, or the one called ``name``. Raises UsageError when there is none of this name."""
    names = list(BACKBONES) if name is None else [name]
    return [_backbone_info(each, backbone_spec(each)) for each in names]


def _backbone_info(name: str, spec: BackboneSpec) -> dict[str, Any]:
    here = "in the package" if spec.embedded else cached(spec.url) if spec.url else None
    return {
        "name": name,
        "parameters": spec.parameters,
        "gmac": spec.gmac,
        "feature_width": spec.feature_width,
        "features": spec.layer,
        "input": "optical flow" if spec.channels == 2 else "boxes and RGB" if spec.detection else "RGB",
        "published": spec.published,
        "source": spec.source,
        "licence": spec.licence,
        "weights_url": spec.url,
        "weights_here": str(here) if here else None,
        "clips": _clips_info(spec.clips),
        "presets": {preset: _clips_info(clips) for preset, clips in spec.presets.items()},
    }


def _clips_info(clips: ClipDefaults) -> dict[str, Any]:
    return {**asdict(clips), "mean": list(clips.mean), "std": list(clips.std)}


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
