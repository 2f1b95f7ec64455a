"""From raw videos to what a trained head says of them."""

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from extract.boxes import content_of
from extract.errors import RecipeMismatchError, StoreError, UsageError, VideoError
from extract.recipe import OWN_FEATURES, Recipe
from extract.sources import Source, find_videos, fingerprint
from extract.store import FeatureStore, VideoRecord
from pipelines.annotations.document import Media
from pipelines.annotations.draft import Draft
from pipelines.checkpoint import SEEDS_FILE, Run, load_run
from pipelines.console import clock
from pipelines.dataset import Example, Shelf
from pipelines.evaluation import check_recipe
from pipelines.extraction import Progress, run_extraction
from pipelines.planning import Plan
from pipelines.predictions import LIKELY, NO_SCORES, Curves, Predictions, chosen_rows
from pipelines.settling import OnWait, Options, check_names, nobody_waits
from pipelines.tasks import TASKS
from pipelines.tasks.said import Said

RATE_SLACK = 1.1  # frame rates that differ by less are alike
ENGINE_OPTIONS = ("weights", "boxes", "device", "engine", "decoder", "workers")
"""The options of `extract` that a run's recipe leaves open."""
SHOWN = 20  # rows of a video that are printed


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What was predicted, and which videos gave nothing: their ids, ``reason`` and ``detail``."""

    predictions: Predictions
    failed: tuple[Mapping[str, str], ...]


def predict(
    run: Run | str | Path,
    videos: str | Path | Sequence[str | Path],
    *,
    store: str | Path | None = None,
    threshold: float | None = None,
    **options: Any,  # noqa: ANN401 - those of `ENGINE_OPTIONS`
) -> Predictions:
    """What the head of ``run`` says of ``videos``; see `predict_videos`.

    Raises:
        VideoError: no video could be read, or one of several could not.
    """
    done = predict_videos(run, videos, store=store, threshold=threshold, **options)
    if done.failed:
        first = done.failed[0]
        raise VideoError(first["video"], first["reason"], first["detail"])
    return done.predictions


def predict_videos(
    run: Run | str | Path,
    videos: str | Path | Sequence[str | Path],
    *,
    store: str | Path | None = None,
    threshold: float | None = None,
    on_wait: OnWait = nobody_waits,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    **options: Any,  # noqa: ANN401 - those of `ENGINE_OPTIONS`
) -> Predicted:
    """Features of ``videos`` by the run's recipe, from ``store`` where it has them, extracted into it where not; then
    the head.

    Without ``store``, the one that the run was trained on is read where it is still there and has all of the videos,
    by their content; else features go to a place that is removed afterwards. ``threshold`` (0..1) cuts the scores of
    labelled steps into segments; None is the run's own.

    Raises:
        UsageError: an option that cannot work, a folder of several seeds, or a run on several joined stores.
        InputError: no run, or nothing that looks like a video.
        RecipeMismatchError: ``store``, weights or precision are not those of the run.
        MachineError: no room, no memory, no such device.
    """
    trained = checked_run(run)
    check_names(options, ENGINE_OPTIONS)
    paths = [videos] if isinstance(videos, str | Path) else list(videos)
    sources = find_videos(paths).sources
    with ExitStack() as stack:
        known = None if options.get("boxes") else _holding(trained, store, sources)
        failed: tuple[Mapping[str, str], ...] = ()
        if known is None:
            place = store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "features.zarr"
            known, failed = _extracted(trained, paths, place, options, on_wait, on_plan, on_progress)
        on_wait("asking the head", None)
        there = [source.video_id for source in sources if source.video_id in known]
        predictions = predict_stored(trained, known, there, threshold=threshold)
    return Predicted(predictions, failed)


def predict_stored(
    run: Run, store: FeatureStore, video_ids: Sequence[str], *, threshold: float | None = None
) -> Predictions:
    """What the head of ``run`` says of the videos ``video_ids`` of ``store``, one after the other.

    Raises:
        RecipeMismatchError: the store's features are of another recipe.
        InputError: they do not fit the task.
        StoreError: they are damaged, or a video is not there.
    """
    check_recipe(run, store)
    task = TASKS[run.task]
    chosen = settled_threshold(run, threshold)
    shelf = Shelf(store, step_s=run.settings.step_s, room=0)
    draft = Draft("activitynet", labels=run.classes)
    curves, sources = {}, {}
    for video_id in video_ids:
        clips, centre_s, read = shelf.take(video_id)
        example = Example(video_id, read, centre_s, None, clips.duration_s)
        example = task.unanswered(clips, example, run.settings, len(run.classes))
        said = task.said(task.answer(run.head, example), example, chosen)
        record = store.catalogue[video_id]
        provenance = record.provenance
        draft.notes += [f"{video_id}: {odd}" for odd in _oddities(run, record)]
        _note(draft, draft.video(video_id, _media(provenance, clips.duration_s)), said)
        sources[video_id] = str(provenance["uri"])
        if said.curves is not None:
            curves[video_id] = Curves(centre_s, said.curves)
    return Predictions(draft.document(), curves, chosen, sources, about(run))


def checked_run(run: Run | str | Path) -> Run:
    """A run that raw videos can be given to.

    Raises:
        UsageError: a folder of several seeds, or a run on several joined stores.
        InputError: no run.
    """
    if isinstance(run, Run):
        trained = run
    elif (Path(run) / SEEDS_FILE).exists():
        raise UsageError(f"{run} holds runs of several seeds; expected one of them, such as {Path(run) / 'seed-0'}")
    else:
        trained = load_run(run)
    if "backbone" not in trained.recipe:
        raise UsageError(
            f"{trained.path} was trained on the features of {len(trained.recipe)} joined stores, which cannot be"
            " extracted in one go; expected a run on one store. Use evaluate with --join, or train on one store"
        )
    return trained


def settled_threshold(run: Run, threshold: float | None) -> float:
    """``threshold``, or the run's own where it is None.

    Raises:
        UsageError: it is no score.
    """
    chosen = float(run.record.get("threshold", 0.5)) if threshold is None else threshold
    if not 0 <= chosen <= 1:
        raise UsageError(f"--threshold {chosen:g}; expected a score, 0 to 1")
    return chosen


def options_of(run: Run, **options: Any) -> Options:  # noqa: ANN401 - those of `ENGINE_OPTIONS`
    """Options of an extraction by the run's recipe. Weights are those given, or those that the run was trained with."""
    recipe = Recipe.model_validate(dict(run.recipe))
    same = {each.name: getattr(recipe, each.name) for each in fields(Options) if hasattr(recipe, each.name)}
    weights = options.pop("weights", None) or run.record.get("weights")
    return replace(
        Options(**same),
        layer=None if recipe.layer == OWN_FEATURES else recipe.layer,
        flow=None if recipe.flow is None else recipe.flow.method,
        short_side=recipe.short_side_px,
        crop=recipe.crop_px,
        weights=weights,
        **options,
    )


def _holding(run: Run, given: str | Path | None, sources: Sequence[Source]) -> FeatureStore | None:
    """The store ``given``, or the one that ``run`` was trained on, if it has all of ``sources`` already.

    Raises:
        StoreError: ``given`` is no store.
        RecipeMismatchError: it has features of another recipe than the run's.
    """
    place = given or run.record.get("store")
    try:
        store = None if place is None else FeatureStore.find(place)
    except (StoreError, OSError):  # whatever stands there now
        if given is not None:
            raise
        return None
    if store is not None and given is not None:
        check_recipe(run, store)
    if store is None or store.recipe_digest != run.recipe_digest:
        return None
    return store if all(_is_in(store, source) for source in sources) else None


def _is_in(store: FeatureStore, source: Source) -> bool:
    record = store.catalogue.get(source.video_id)
    try:
        return record is not None and content_of(record.fingerprint) == fingerprint(source.path)
    except VideoError:
        return False


def _extracted(
    run: Run,
    paths: Sequence[str | Path],
    place: str | Path,
    options: Mapping[str, Any],
    on_wait: OnWait,
    on_plan: Callable[[Plan], None],
    on_progress: Callable[[Progress], None],
) -> tuple[FeatureStore, tuple[Mapping[str, str], ...]]:
    if run.recipe.get("roi") is not None and not options.get("boxes"):
        raise UsageError(
            f"the head in {run.path} is about boxes: expected --boxes FILE, which 'untrimmed detect-people' can make,"
            " or --store with a store that has all of these videos"
        )
    store = FeatureStore.open_or_create(place, run.recipe)
    try:
        store, summary = run_extraction(
            list(paths), place, options=options_of(run, **options), on_wait=on_wait, on_plan=on_plan,
            on_progress=on_progress,
        )  # fmt: skip
    except RecipeMismatchError as error:
        lines = [line.replace("in the store", "for the run") for line in str(error).splitlines() if line[:2] == "  "]
        raise RecipeMismatchError(
            "\n".join([f"the head in {run.path} needs features of another recipe:", *lines])
            + "\nName the weights that it was trained with by --weights, or train a head on features of these"
        ) from error
    if summary.stopped:
        raise KeyboardInterrupt
    return store, tuple(summary.failed)


def _oddities(run: Run, record: VideoRecord) -> Iterator[str]:
    """What makes a video unlike those that the run was trained on."""
    if record.status == "partial":
        yield "some of it could not be decoded"
    rate, wanted = record.provenance.get("average_fps"), run.recipe.get("fps")
    known = run.record.get("frame_rates")
    if not isinstance(rate, int | float):
        return
    if isinstance(wanted, int | float) and rate < wanted / RATE_SLACK:
        yield f"{rate:g} frames/s, fewer than the {wanted:g} samples/s of the run's features: frames repeat"
    elif wanted == "native" and known and not known[0] / RATE_SLACK <= rate <= known[1] * RATE_SLACK:
        yield (
            f"{rate:g} frames/s; the run was trained on {known[0]:g} to {known[1]:g}, and its features take every"
            " frame: clips here are of another length in seconds"
        )


def _media(provenance: Mapping[str, Any], duration_s: float) -> Media:
    rate, size = provenance.get("average_fps"), (provenance.get("width"), provenance.get("height"))
    return Media(duration_s, None if rate is None else float(rate), *size)


def _note(draft: Draft, video: int, said: Said) -> None:
    """Put rows into the document, segments best first."""
    if said.segments is not None:
        rows = said.segments.take(np.argsort(-said.segments.scores, kind="stable"))
        for (start_s, stop_s), score, label in zip(*(column.tolist() for column in rows), strict=True):
            draft.segment(video, label, start_s, stop_s, score)
    if said.boxes is not None:
        for second, box, label, score, track in zip(*(column.tolist() for column in said.boxes), strict=True):
            draft.box(video, second, box, label, track, score)


def about(run: Run) -> dict[str, Any]:
    """What made predictions, as JSON values."""
    return {
        "run": run.path.name,
        "task": run.task,
        "head": run.head_name,
        "seed": run.record.get("seed"),
        "recipe": dict(run.recipe),
        "recipe_digest": run.recipe_digest,
        "versions": {"untrimmed": version("untrimmed"), "trained with": run.record.get("versions")},
    }


def predicted_json(done: Predicted, output: Path | None) -> dict[str, Any]:
    """All that was predicted, as JSON values: segments best first, boxes by time."""
    document = done.predictions.document
    videos: dict[str, dict[str, Any]] = {
        video: {"duration_s": media.duration_s, "segments": [], "boxes": []} for video, media in document.media.items()
    }
    for row in done.predictions.segments():
        values = {"start": row.start_s, "stop": row.stop_s, "label": row.label, "score": row.score}
        videos[row.video]["segments"].append(values)
    boxes, ids = document.boxes, document.videos
    columns = (boxes.video, boxes.second, boxes.box, boxes.label, boxes.track, boxes.score)
    for video, second, box, label, track, score in zip(*(column.tolist() for column in columns), strict=True):
        values = {"second": second, "box": box, "label": document.labels[label], "track": track, "score": score}
        videos[ids[video]]["boxes"].append(values)
    return {
        **({} if output is None else {"output": str(output)}),
        **done.predictions.about,
        "threshold": done.predictions.threshold,
        "notes": list(document.notes),
        "videos": videos,
        "failed": [dict(each) for each in done.failed],
    }


def predicted_lines(
    done: Predicted, output: Path | None, form: str | None, min_score: float | None = None
) -> Iterator[str]:
    """The best rows of each video, or where all are written; and what failed."""
    if output is None or form is None:
        for number, video in enumerate(done.predictions.document.videos):
            yield from _video_lines(done.predictions, number, video)
    else:
        yield from _written_lines(done.predictions, output, form, min_score)
    yield from (f"note: {note}" for note in done.predictions.document.notes)
    for each in done.failed:
        yield f"failed: {each['video']}: {each['reason']}: {each['detail']}"


def _written_lines(predictions: Predictions, output: Path, form: str, min_score: float | None) -> Iterator[str]:
    document = chosen_rows(predictions, form, min_score)
    rows, videos = len(document.segments) + len(document.boxes), len(document.media)
    what = "boxes" if len(document.boxes) else "segments"
    yield f"{rows} {what} of {videos} {'video' if videos == 1 else 'videos'} in {output} ({form})"
    left = len(predictions.document.segments) + len(predictions.document.boxes) - rows
    if left:
        why = f"{form} holds no scores: " if min_score is None else ""
        least = LIKELY if min_score is None else min_score
        yield f"note: {why}{left} of scores below {least:g} are left out" + (
            "; --min-score sets the limit" if min_score is None else ""
        )
    elif form in NO_SCORES:
        yield f"note: {form} holds no scores"
    if predictions.curves and form != "activitynet":
        yield f"note: {form} cannot hold scores over time, which the report draws; activitynet's file does"
    if form not in NO_SCORES:
        yield f"next: untrimmed report {shlex.quote(str(output))} -o report.html"


def _video_lines(predictions: Predictions, number: int, video: str) -> Iterator[str]:
    document = predictions.document
    segments, boxes = document.segments, document.boxes
    mine, seen = np.flatnonzero(segments.video == number), np.flatnonzero(boxes.video == number)
    yield f"{video}: {len(mine)} segments" if not len(seen) else f"{video}: {len(seen)} scores of boxes"
    best = [
        rows[np.argsort(-score[rows], kind="stable")][:SHOWN]
        for rows, score in ((mine, segments.score), (seen, boxes.score))
    ]
    likely = best[0][segments.score[best[0]] >= LIKELY]
    for row in likely[np.argsort(segments.span_s[likely, 0], kind="stable")].tolist():
        span = " ".join(f"{clock(second):>10}" for second in segments.span_s[row].tolist())
        yield f"  {span}  {segments.score[row]:.2f}  {document.labels[segments.label[row]]}"
    for row in best[1].tolist():
        who = "" if boxes.track[row] < 0 else f"  person {boxes.track[row]}"
        yield f"  {clock(boxes.second[row]):>10}{who}  {boxes.score[row]:.2f}  {document.labels[boxes.label[row]]}"
    left = len(mine) + len(seen) - len(likely) - len(best[1])
    if left > 0:
        yield f"  and {left} of lower scores, which -o FILE would hold"
