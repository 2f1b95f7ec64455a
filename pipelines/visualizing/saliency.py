"""Which pixels of which frames a class hangs on: the gradient of its logit with respect to pixels.

N samples, K classes that are looked at, C channels, T frames, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import UsageError
from pipelines.visualizing.clips import Samples, grid_of, read_samples
from pipelines.visualizing.networks import Looked

OnClip = Callable[[int, int], None]  # clips done, of so many


@dataclass(frozen=True, slots=True)
class Smoothing:
    """SmoothGrad (Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017): the mean of gradients at noisy
    copies of a clip. With one copy, which is the clip itself, the plain gradient of Simonyan et al., "Deep Inside
    Convolutional Networks" (ICLR workshop 2014, section 3).

    Attributes:
        copies: how many.
        noise: standard deviation of the noise, as a share of the range of the clip's pixels.
        seed: of the noise.
    """

    copies: int = 8
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or not 0 <= self.noise < float("inf"):
            raise UsageError(f"{self.copies} copies with noise {self.noise}; expected at least 1, and 0 or more")


@dataclass(frozen=True, eq=False)
class Saliency:
    """Saliency of the frames of a stretch of video that a network was shown.

    Attributes:
        pixels: (N, H, W, C) uint8, the frames as the network saw them.
        second: (N,) float64 of each, from the video's first displayed frame on.
        classes: numbers of K classes.
        maps: (K, N, H, W) float32: how much the logit changes with each pixel, |gradient| with respect to pixels in
            0..1, summed over channels; the mean over the clips that a frame is in.
        probability: (K, N) float64, softmax, the mean over the clips that a frame is in.
    """

    pixels: NDArray[np.uint8]
    second: NDArray[np.float64]
    classes: tuple[int, ...]
    maps: NDArray[np.float32]
    probability: NDArray[np.float64]

    @property
    def curve(self) -> NDArray[np.float64]:
        """(K, N): the sum over each frame."""
        curve: NDArray[np.float64] = self.maps.sum(axis=(2, 3), dtype=np.float64)
        return curve


def clip_gradient(looked: Looked, clip: NDArray[np.uint8], number: int, smoothing: Smoothing) -> NDArray[np.float32]:
    """(T, H, W, C) uint8 -> (T, H, W, C), the gradient of the logit of class ``number``, smoothed, with its sign."""
    random = torch.Generator().manual_seed(smoothing.seed)
    pixels = _pixels(clip)
    spread = smoothing.noise * float(pixels.max() - pixels.min())
    total = torch.zeros_like(pixels)
    for _ in range(smoothing.copies):
        copy = (
            pixels.clone() if smoothing.copies == 1 else pixels + spread * torch.randn(pixels.shape, generator=random)
        )
        copy.requires_grad_()
        total += torch.autograd.grad(looked.logits(copy[None])[0, number], copy)[0]
    return (total / smoothing.copies).permute(1, 2, 3, 0).numpy()


def video_saliency(
    looked: Looked,
    path: str,
    classes: Sequence[int] = (),
    *,
    start_s: float = 0.0,
    stop_s: float | None = None,
    smoothing: Smoothing | None = None,
    on_clip: OnClip = lambda _done, _total: None,
) -> Saliency:
    """Saliency of a stretch of video, clip by clip on the backbone's own grid.

    Args:
        looked: the network.
        path: a file or URL.
        classes: which; by default the one whose probability is highest on the mean over clips.
        start_s: from the video's first displayed frame on.
        stop_s: by default the video's end.
        smoothing: of gradients.
        on_clip: called after each clip of each class.

    Raises:
        UsageError: a span that is empty, or too long to hold.
        InputError, VideoError: the video cannot be read, or has nothing there.
    """
    samples = read_samples(path, looked.backbone.spec, start_s=start_s, stop_s=stop_s)
    return saliency_of(looked, samples, classes, smoothing=smoothing, on_clip=on_clip)


def saliency_of(
    looked: Looked,
    samples: Samples,
    classes: Sequence[int] = (),
    *,
    smoothing: Smoothing | None = None,
    on_clip: OnClip = lambda _done, _total: None,
) -> Saliency:
    """As `video_saliency`, of samples that are read already."""
    clips = samples.clips(grid_of(looked.backbone.spec))
    said = np.stack([_said(looked, samples.pixels[numbers]) for numbers in clips])  # (clips, all classes)
    chosen = tuple(classes) or (int(said.mean(0).argmax()),)
    count = np.zeros(len(samples.second))
    for numbers in clips:
        count[np.unique(numbers)] += 1
    seen = np.flatnonzero(count)  # a stride may leave out samples
    place = np.cumsum(count > 0) - 1
    maps = np.zeros((len(chosen), len(seen), *samples.pixels.shape[1:3]), np.float32)
    probability = np.zeros((len(chosen), len(seen)))
    for at, number in enumerate(chosen):
        for done, numbers in enumerate(clips):
            gradient = clip_gradient(looked, samples.pixels[numbers], number, smoothing or Smoothing())
            unique, first = np.unique(numbers, return_index=True)  # the tail shows its last sample several times
            once = np.add.reduceat(gradient, first, axis=0)
            maps[at, place[unique]] += np.abs(once).sum(3)
            probability[at, place[unique]] += said[done, number]
            on_clip(at * len(clips) + done + 1, len(chosen) * len(clips))
    maps /= count[seen][None, :, None, None].astype(np.float32)
    return Saliency(samples.pixels[seen], samples.second[seen], chosen, maps, probability / count[seen])


def _said(looked: Looked, clip: NDArray[np.uint8]) -> NDArray[np.float64]:
    with torch.no_grad():
        probability: NDArray[np.float64] = looked.logits(_pixels(clip)[None])[0].double().softmax(0).cpu().numpy()
    return probability


def _pixels(clip: NDArray[np.uint8]) -> Tensor:
    """(T, H, W, C) uint8 -> (C, T, H, W) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2).float() / 255
