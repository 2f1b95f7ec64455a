"""How fast this process reads a video and computes its clips, from a small sample."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from extract.clipping import Clip, clips_of, reading_options
from extract.engine import Engine
from extract.errors import VideoError
from extract.worker import Setup, Task, clips_ahead, decoding_process, engine_for

_SAMPLE_S = 2.0  # of decoding at most, and of computing
_SAMPLE_CLIPS = 32
_TRIED = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that opening a video takes, decoding a second of it, and the network for a clip.

    ``threads`` compute clips, so that the network's seconds are as many of each.
    """

    open_s: float
    decode_s_per_s: float
    model_s_per_clip: float
    threads: int

    def decode_s(self, videos: float, video_s: float) -> float:
        """Seconds of decoding ``video_s`` seconds in so many videos."""
        return self.open_s * videos + self.decode_s_per_s * video_s

    def model_s(self, clips: float) -> float:
        """Seconds of computing ``clips`` clips."""
        return self.model_s_per_clip * clips

    def wall_s(self, videos: float, video_s: float, clips: float, cores: float) -> float:
        """Seconds until one worker with ``cores`` cores has read and computed: one goes on beside the other."""
        decode_s, model_s = self.decode_s(videos, video_s), self.model_s(clips)
        return max(decode_s, model_s, (decode_s + model_s * self.threads) / cores)


def measure(setup: Setup, tasks: Sequence[Task]) -> Speed | None:
    """Read and compute some clips of the first of ``tasks`` that can be read; None where none can.

    Takes a few seconds. Raises as `extract.worker.run_unit` does.
    """
    engine = engine_for(setup)
    sampled = min(_SAMPLE_CLIPS, clips_ahead(setup.recipe))
    for task in tasks[:_TRIED]:
        try:
            _decoded(setup, task, 1)  # what is slow once
            clips, open_s, decode_s = _decoded(setup, task, max(sampled, 2 * engine.batch))
        except VideoError:
            continue
        if clips:
            decode_s_per_s = decode_s / (clips[-1].stop_s - clips[0].start_s)
            return Speed(open_s, decode_s_per_s, _model_s_per_clip(engine, clips[: 2 * engine.batch]), setup.threads)
    return None


def _model_s_per_clip(engine: Engine, clips: Sequence[Clip]) -> float:
    frames = np.stack([clip.frames for clip in clips])
    engine.features(frames[: engine.batch])  # what is slow once
    began = time.perf_counter()
    engine.features(frames)
    return (time.perf_counter() - began) / len(frames)


def _decoded(setup: Setup, task: Task, most: int) -> tuple[list[Clip], float, float]:
    """Up to ``most`` clips, as many as come in about two seconds, and the seconds of opening and of decoding."""
    began = time.perf_counter()
    clips: list[Clip] = []
    with decoding_process().open_video(task.path, **reading_options(setup.recipe, setup.decoder)) as reader:
        opened = time.perf_counter()
        for clip in islice(clips_of(reader, setup.recipe, device=setup.device), most):
            clips.append(clip)
            if time.perf_counter() - opened > _SAMPLE_S:
                break
        return clips, opened - began, time.perf_counter() - opened
