"""A clip that a network takes for a class as much as can be: gradient ascent on its pixels.

C channels (3 colours, or 2 of optical flow), T frames, H W pixels, in 0..1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.errors import UsageError
from pipelines.config import check_seed
from pipelines.visualizing.networks import Looked

_SOFT_PX = 2.0  # before its motion is measured, a clip is blurred, so that gradients reach as far as it moves
OnStep = Callable[[int, float], None]  # steps done, the logit before the last of them


@dataclass(frozen=True, slots=True)
class Ascent:
    """How a clip is sought: the logit, less the weights times these, is raised by Adam, pixels staying in 0..1.

    Activation maximisation as Simonyan et al. ("Deep Inside Convolutional Networks", ICLR workshop 2014, section 2)
    have it, with the regularisers of Feichtenhofer et al., "What have we learned from deep representations for action
    recognition?" (CVPR 2018, section 3): energy, and the variation over space and over time, each with a weight of its
    own. A small weight of the latter lets fast motion come out, a large one leaves slow motion alone.

    Attributes:
        steps: of gradient ascent.
        step_size: of Adam, in the range 0..1 of a pixel.
        l2: weight of the mean squared distance from what the clip began with, without its noise.
        total_variation: weight of the mean squared difference of neighbours along x, and of those along y.
        temporal_smoothness: weight of the mean squared difference of neighbours along time.
        blur_px: standard deviation of the Gaussian that each gradient is blurred by in space (Øygard, "Visualizing
            GoogLeNet Classes", 2015): what is coarse grows first.
        jitter_px: the network sees the clip moved round by up to so many pixels, other ones at each step (Mordvintsev
            et al., "Inceptionism", 2015), so that nothing depends on the positions of strides.
        noise: standard deviation of what is added to the clip at first.
        seed: of the noise and the jitter.
    """

    steps: int = 160
    step_size: float = 0.02
    l2: float = 1.0
    total_variation: float = 300.0
    temporal_smoothness: float = 300.0
    blur_px: float = 2.0
    jitter_px: int = 8
    noise: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("l2", "total_variation", "temporal_smoothness", "blur_px", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}; expected 0 or more")
        check_seed(self.seed)
        if self.steps < 1 or self.jitter_px < 0 or not 0 < self.step_size <= 1:
            raise UsageError(
                f"{self.steps} steps of {self.step_size}, moved by {self.jitter_px} px; expected at least 1 step, of "
                "above 0 and up to 1, and 0 px or more"
            )


@dataclass(frozen=True, eq=False)
class Maximised:
    """What gradient ascent found.

    Attributes:
        pixels: (T, H, W, C) uint8.
        logit: of the class, of these pixels.
        probability: likewise, softmax over all classes.
        start_logit: of what it began with, with its noise.
        start_probability: likewise.
        temporal_difference: mean absolute difference of neighbours along time, in 0..1.
        motion_px: (x, y) by which the whole picture moves from frame to frame on average, in pixels, to the right and
            down; None where the clip is flow, or one frame.
    """

    pixels: NDArray[np.uint8]
    logit: float
    probability: float
    start_logit: float
    start_probability: float
    temporal_difference: float
    motion_px: tuple[float, float] | None


def maximise(
    looked: Looked,
    number: int,
    ascent: Ascent,
    *,
    start: NDArray[np.uint8] | None = None,
    on_step: OnStep = lambda _done, _logit: None,
) -> Maximised:
    """A clip with a high logit of class ``number``.

    Args:
        looked: the network.
        number: of the class.
        ascent: how it is sought. The same one gives the same clip, on one machine and number of threads.
        start: (T, H, W, C) uint8 to begin with; by default the network's mean colour, or no motion.
        on_step: called after each step.

    Raises:
        UsageError: ``start`` has another shape than the network's clips.
    """
    random = torch.Generator().manual_seed(ascent.seed)
    still = looked.mean.expand(looked.size) if start is None else _as_clip(looked, start)
    began = (still + ascent.noise * torch.randn(looked.size, generator=random)).clamp(0, 1)
    clip = began.clone().requires_grad_()
    adam = torch.optim.Adam([clip], lr=ascent.step_size)
    for step in range(ascent.steps):
        moved = torch.randint(-ascent.jitter_px, ascent.jitter_px + 1, (2,), generator=random).tolist()
        logit = looked.logits(clip.roll(moved, dims=(2, 3))[None])[0, number].cpu()
        (gradient,) = torch.autograd.grad(penalty(clip, still, ascent) - logit, clip)
        clip.grad = blurred(gradient, ascent.blur_px)
        adam.step()
        with torch.no_grad():
            clip.clamp_(0, 1)
        on_step(step + 1, logit.item())
    pixels = clip.detach().mul(255).round()
    if not pixels.isfinite().all():
        raise UsageError(
            f"the clip is no longer made of numbers after {ascent.steps} steps, with the weights l2 {ascent.l2:g}, "
            f"total_variation {ascent.total_variation:g}, temporal_smoothness {ascent.temporal_smoothness:g} and noise "
            f"{ascent.noise:g}; take smaller ones"
        )
    end, first = looked.answer(pixels / 255, number), looked.answer(began, number)
    difference = pixels.diff(dim=1).abs().mean().item() / 255 if len(pixels[0]) > 1 else 0.0
    shown = pixels.byte().permute(1, 2, 3, 0).contiguous().numpy()
    return Maximised(shown, *end, *first, difference, None if looked.is_flow else whole_motion_px(shown))


def penalty(clip: Tensor, still: Tensor, ascent: Ascent) -> Tensor:
    """What is taken off the logit of ``clip`` (C, T, H, W), which began as ``still``."""
    total = ascent.l2 * (clip - still).square().mean()
    weights = (ascent.temporal_smoothness, ascent.total_variation, ascent.total_variation)
    for dim, weight in enumerate(weights, 1):
        if clip.shape[dim] > 1:
            total = total + weight * clip.diff(dim=dim).square().mean()
    return total


def blurred(gradient: Tensor, blur_px: float) -> Tensor:
    """(C, T, H, W), blurred along H and W by a Gaussian of this standard deviation; 0 leaves it as it is."""
    if blur_px == 0:
        return gradient
    from torchvision.transforms.functional import gaussian_blur

    reach = min(math.ceil(3 * blur_px), min(gradient.shape[2:]) - 1)
    soft: Tensor = gaussian_blur(gradient, [2 * reach + 1] * 2, [blur_px] * 2)
    return soft


def whole_motion_px(frames: NDArray[np.uint8]) -> tuple[float, float] | None:
    """The one motion (x, y) in pixels a frame that explains (T, H, W, 3) best, by least squares over all gradients.

    Lucas and Kanade, "An Iterative Image Registration Technique" (IJCAI 1981), with the whole picture as the window.
    None where nothing tells, such as a single frame.
    """
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(frames.astype(np.float32), (0, _SOFT_PX, _SOFT_PX, 0))
    if len(soft) < 2:
        return None
    change, between = np.diff(soft, axis=0), (soft[1:] + soft[:-1]) / 2
    down, right = np.gradient(between, axis=(1, 2))
    along = np.stack([right.ravel(), down.ravel()]).astype(np.float64)
    square = along @ along.T
    if np.linalg.matrix_rank(square) < 2:
        return None
    x, y = np.linalg.solve(square, -along @ change.ravel())
    return float(x), float(y)


def _as_clip(looked: Looked, start: NDArray[np.uint8]) -> Tensor:
    clip = torch.from_numpy(np.ascontiguousarray(start)).permute(3, 0, 1, 2).float() / 255
    if clip.shape != looked.size:
        raise UsageError(f"the clip to begin with has shape {tuple(clip.shape)}; expected {looked.size}, C x T x H x W")
    return clip
