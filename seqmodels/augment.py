"""Augmentation in time, as step numbers to take. T is the number of steps of a sequence."""

import numpy as np
from numpy.typing import NDArray


def rescaled_steps(n_steps: int, rng: np.random.Generator, *, factor: float) -> NDArray[np.int64]:
    """Step numbers that play a sequence slower or faster by up to ``factor`` (log-uniform), with jitter.

    Order is kept and at least one step comes back: ``(T',)`` values in 0..T-1.
    """
    speed = np.exp(rng.uniform(-np.log(factor), np.log(factor)))
    count = max(1, round(n_steps * speed))
    places = np.linspace(0, n_steps - 1, count) + rng.uniform(-0.5, 0.5, count)
    return np.sort(np.rint(places).clip(0, n_steps - 1)).astype(np.int64)


def splice_steps(n_first: int, n_second: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps of the beginning of one sequence and of the end of another, cut at the same relative place.

    Splicing two videos of one class gives a new video of that class (CutMix, Yun et al. 2019, along time, with
    no label to mix), so that what happens in between no longer tells the videos apart. At least one step.
    """
    place = rng.uniform()
    first = np.arange(round(place * n_first))
    second = np.arange(min(round(place * n_second), n_second - (len(first) == 0)), n_second)
    return first, second
