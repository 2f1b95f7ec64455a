"""Which pixels of which frames a class hangs on, told by gradients of its logit with respect to pixels.

N samples, K classes that are looked at, C channels, T frames, H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import UsageError
from pipelines.config import check_seed
from pipelines.visualizing.clips import Samples, grid_of, read_samples
from pipelines.visualizing.networks import Looked

METHODS = ("integrated", "smoothgrad", "gradient")
OnClip = Callable[[int, int], None]  # clips done, of so many


@dataclass(frozen=True, slots=True)
class Method:
    """How it is told what a logit hangs on.

    Attributes:
        name: "integrated": how much of the logit each pixel brings, with its sign, against the same clip at rest, which
            shows the mean of its frames all the time (Sundararajan et al., "Axiomatic Attribution for Deep Networks",
            ICML 2017, section 3); over all pixels of a clip it sums up to the difference of the two logits.
            "gradient": how much the logit would change with each pixel (Simonyan et al., "Deep Inside Convolutional
            Networks", ICLR workshop 2014, section 3). "smoothgrad": the same, the mean over noisy copies of the clip
            (Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017).
        steps: points between rest and the clip, or noisy copies; "gradient" needs one.
        noise: standard deviation of the noise of "smoothgrad", as a share of the range of the clip's pixels.
        seed: of the noise.

    Raises:
        UsageError: another name, or values that cannot work.
    """

    name: str = "integrated"
    steps: int = 16
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UsageError(f"--method {self.name}; expected one of {', '.join(METHODS)}")
        check_seed(self.seed)
        if self.steps < 1 or not 0 <= self.noise < float("inf"):
            raise UsageError(f"{self.steps} steps with noise {self.noise}; expected at least 1, and 0 or more")


@dataclass(frozen=True, eq=False)
class Saliency:
    """Saliency of the frames of a stretch of video that a network was shown.

    Attributes:
        pixels: (N, H, W, C) uint8, the frames as the network saw them.
        second: (N,) float64 of each, from the video's first displayed frame on.
        classes: numbers of K classes.
        maps: (K, N, H, W) float32, summed over channels, the mean over the clips that a frame is in: with the sign by
            the method "integrated", the size alone by the others.
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


def clip_saliency(looked: Looked, clip: NDArray[np.uint8], number: int, method: Method) -> NDArray[np.float32]:
    """What the logit of class ``number`` hangs on in ``clip`` (T, H, W, C) uint8, with its sign -> (T, H, W, C).

    In logits for "integrated", in logits per range 0..1 of a pixel for the others.
    """
    pixels = _pixels(clip)
    if method.name == "integrated" and len(clip) == 1:
        raise UsageError(
            "a clip of one frame is its own rest, so integrated gradients are all zero; take --method smoothgrad or "
            "gradient, or a network of more frames"
        )
    total, count = torch.zeros_like(pixels), 0
    for point in _points(pixels, method):
        total += torch.autograd.grad(looked.logits(point.requires_grad_()[None])[0, number], point)[0]
        count += 1
    mean = total / count
    if method.name == "integrated":
        mean = mean * (pixels - _at_rest(pixels))
    return mean.permute(1, 2, 3, 0).numpy()


def _points(pixels: Tensor, method: Method) -> Iterator[Tensor]:
    """The clips (C, T, H, W) at which gradients are taken."""
    if method.name == "gradient":
        yield pixels.clone()
    elif method.name == "smoothgrad":
        random = torch.Generator().manual_seed(method.seed)
        spread = method.noise * float(pixels.max() - pixels.min())
        for _ in range(method.steps):
            yield pixels + spread * torch.randn(pixels.shape, generator=random)
    else:
        rest = _at_rest(pixels)
        for step in range(method.steps):
            yield rest + (step + 0.5) / method.steps * (pixels - rest)


def _at_rest(pixels: Tensor) -> Tensor:
    """(C, T, H, W) -> the mean over T at all of them."""
    return pixels.mean(1, keepdim=True).expand_as(pixels)


def video_saliency(
    looked: Looked,
    path: str,
    classes: Sequence[int] = (),
    *,
    start_s: float = 0.0,
    stop_s: float | None = None,
    method: Method | None = None,
    on_clip: OnClip = lambda _done, _total: None,
) -> Saliency:
    """Saliency of a stretch of video, clip by clip on the backbone's own grid.

    Args:
        looked: the network.
        path: a file or URL.
        classes: which; by default the one whose probability is highest on the mean over clips.
        start_s: from the video's first displayed frame on.
        stop_s: by default the video's end.
        method: how it is told.
        on_clip: called after each clip of each class.

    Raises:
        UsageError: a span that is empty, or too long to hold.
        InputError, VideoError: the video cannot be read, or has nothing there.
    """
    samples = read_samples(path, looked.backbone.spec, start_s=start_s, stop_s=stop_s)
    return saliency_of(looked, samples, classes, method=method, on_clip=on_clip)


def saliency_of(
    looked: Looked,
    samples: Samples,
    classes: Sequence[int] = (),
    *,
    method: Method | None = None,
    on_clip: OnClip = lambda _done, _total: None,
) -> Saliency:
    """As `video_saliency`, of samples that are read already."""
    how = method or Method()
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
            found = clip_saliency(looked, samples.pixels[numbers], number, how)
            unique, first, times = np.unique(numbers, return_index=True, return_counts=True)
            # The tail shows its last sample several times, which count as their mean.
            once = np.add.reduceat(found, first, axis=0) / times[:, None, None, None].astype(np.float32)
            maps[at, place[unique]] += (once if how.name == "integrated" else np.abs(once)).sum(3)
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
