"""Looking at a store. Without torch, which takes seconds to load."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.store import FeatureStore
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
