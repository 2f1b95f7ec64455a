"""What a trained head says of a video while it comes: segments as they end.

N clips, D feature width, C classes.
"""

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import extract.recipe
from extract.clipping import Clip, clips_of, reading_options
from extract.errors import RecipeMismatchError, UsageError, VideoError
from extract.prefetch import Prefetch
from extract.recipe import Recipe
from extract.video import STDIN, Feed, ReadReport, follow_video
from extract.worker import Setup, clips_ahead, engine_for
from pipelines.checkpoint import Run
from pipelines.predicting import checked_run, options_of, settled_threshold
from pipelines.settling import OnWait, check_names, nobody_waits, settle
from pipelines.tasks.said import quantised
from seqmodels.stepwise import OpenRuns, Segment, stepwise

IDLE_S = 10.0
STREAM_OPTIONS = ("weights", "device", "engine")
OnEnd = Callable[[ReadReport], None]


class Ended(NamedTuple):
    """A segment that has ended."""

    start_s: float
    stop_s: float
    label: str
    score: float


def streamed_id(source: str) -> str:
    """The video id of what is followed: the file's name, or stdin."""
    return "stdin" if source == STDIN else Path(source).name


def stream_predictions(
    run: Run | str | Path,
    source: str | Path,
    *,
    threshold: float | None = None,
    idle_s: float = IDLE_S,
    on_wait: OnWait = nobody_waits,
    on_end: OnEnd = lambda _report: None,
    **options: Any,  # noqa: ANN401 - those of `STREAM_OPTIONS`
) -> Generator[Ended, None, None]:
    """The segments of ``source``, a file that may still grow, a named pipe, or "-" for standard input, as they end: in
    all those that `pipelines.predicting.predict_videos` gives of the whole file.

    A segment ends with the first step that is below ``threshold`` (None: the run's own), or with the video: when the
    pipe is closed, or the file has not grown for ``idle_s`` seconds. Ctrl-C ends the video, too: what is open is given
    out, and then comes KeyboardInterrupt. ``on_end`` is told at the end how reading went. Memory does not grow.

    Raises:
        UsageError: a value or source that cannot work, or a head that needs to know what comes later.
        InputError: no run.
        RecipeMismatchError: weights or precision are not those of the run.
        VideoError: what comes cannot be read.
        MachineError: no memory, no such device.
    """
    trained = checked_run(run)
    check_names(options, STREAM_OPTIONS)
    least = settled_threshold(trained, threshold)
    _check(trained)
    setup = _setup(trained, options, on_wait)
    on_wait("loading the network", None)
    said = _Said(trained, setup, least, str(source))
    return _segments(trained, said, setup, str(source), idle_s, on_end)


def _check(run: Run) -> None:
    if run.task != "label":
        raise UsageError(
            f"{run.path} answers the task {run.task}, which looks at all of a video; expected a head for label, which"
            " answers for each step. Predict without --stream when the video is complete"
        )
    if run.settings.step_s:
        raise UsageError(
            f"{run.path} was trained with step_s={run.settings.step_s:g}, and steps between clips are not made while"
            " they come; expected step_s=0. Predict without --stream when the video is complete, or train again"
        )
    try:
        stepwise(run.head)
    except ValueError as error:
        raise UsageError(
            f"{run.path}: its head ({run.head_name}) looks at later steps, or at all earlier ones; expected lstm or gru"
            " trained with --set causal=true, attention with --set causal=true --set window=STEPS, or linear."
            " Train one of these, or predict without --stream when the video is complete"
        ) from error


def _setup(run: Run, options: dict[str, Any], on_wait: OnWait) -> Setup:
    setup = settle(options_of(run, **options), "stream", on_wait=on_wait)
    wanted = Recipe.model_validate(dict(run.recipe))
    ours = setup.recipe.model_copy(update={"stored_dtype": wanted.stored_dtype})
    if ours != wanted:
        apart = extract.recipe.difference(ours.as_dict(), wanted.as_dict(), where="here", whose="in the run")
        lines = "\n  ".join(apart)
        raise RecipeMismatchError(f"features as {run.path} needs them cannot be made here:\n  {lines}")
    return replace(setup, recipe=wanted)


class _End(NamedTuple):
    """The video ended."""

    duration_s: float
    report: ReadReport


def _segments(
    run: Run, said: "_Said", setup: Setup, source: str, idle_s: float, on_end: OnEnd
) -> Generator[Ended, None, None]:
    with Feed(source, idle_s) as feed, _ended_by_interrupt(feed) as interrupted:
        pieces = _pieces(feed, setup)
        try:
            with closing(pieces), Prefetch(pieces, clips_ahead(setup.recipe)) as decoding, ExitStack() as stack:
                stack.callback(feed.end)  # the thread that decodes shall not wait for more
                for batch in decoding.batches(said.batch):
                    clips = [piece for piece in batch if isinstance(piece, Clip)]
                    ended = said.next(clips) if clips else []
                    if isinstance(last := batch[-1], _End):
                        ended += said.end(last.duration_s)
                        on_end(last.report)
                    for segment in ended:
                        yield Ended(segment.start_s, segment.stop_s, run.classes[segment.label], segment.score)
        except VideoError:  # of too little to be a video
            if not interrupted.is_set():
                raise
    if interrupted.is_set():
        raise KeyboardInterrupt


def _pieces(feed: Feed, setup: Setup) -> Generator[Clip | _End, None, None]:
    options = reading_options(setup.recipe, "pyav")
    with follow_video(feed, fps=options["fps"], short_side=options["short_side"]) as reader:
        yield from clips_of(reader, setup.recipe, device=setup.device)
        report = reader.report
        if report.display_end_s is None:
            raise VideoError(feed.name, "no_frames", "no frame could be decoded")
        yield _End(report.display_end_s - reader.info.start_s, report)


class _Said:
    """Clips in, segments out. ``batch``: clips that are best computed at once."""

    def __init__(self, run: Run, setup: Setup, threshold: float, source: str) -> None:
        self._engine = engine_for(setup)
        self._dtype, self._source = setup.recipe.stored_dtype, source
        self._answer = stepwise(run.head)
        self._runs = OpenRuns(len(run.classes), threshold)
        self.batch = self._engine.batch

    def next(self, clips: list[Clip]) -> list[Segment]:
        """What ends with the next clips."""
        features = self._stored(clips)
        centre_s = np.array([(clip.start_s + clip.stop_s) / 2 for clip in clips])
        logits = self._answer(torch.from_numpy(features), torch.from_numpy(centre_s)).float().numpy()
        steps = zip(centre_s.tolist(), quantised(logits).T, strict=True)
        return [segment for step in steps for segment in self._runs.push(*step)]

    def end(self, duration_s: float) -> list[Segment]:
        """What is open, when the video ends."""
        return self._runs.close(duration_s)

    def _stored(self, clips: list[Clip]) -> NDArray[np.float32]:
        """Features (N, D), rounded as a store rounds them: the head was trained on such."""
        features = self._engine.features(np.stack([clip.frames for clip in clips]))
        with np.errstate(over="ignore"):
            stored = features.astype(self._dtype)
        fits = np.isfinite(stored).all(axis=1)
        if not fits.all():
            at_s = clips[int(fits.argmin())].start_s
            detail = f"the features at {at_s:.1f} s cannot be stored as {self._dtype}: no head was trained on such"
            raise VideoError(self._source, "overflow", detail)
        return stored.astype(np.float32)


@contextmanager
def _ended_by_interrupt(feed: Feed) -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C ends ``feed`` and sets the event; the next one is KeyboardInterrupt again."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals are the main thread's
        return

    def end(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        interrupted.set()
        feed.end()

    before = signal.signal(signal.SIGINT, end)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
