"""What a network is shown of a clip: crops in time and space, mirrored, reversed, relit.

B clips, T frames, H W pixels, C channels (3 colours, or 2 of optical flow), K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.backbones import ClipDefaults

Pixels = NDArray[np.uint8]
Target = NDArray[np.float32]
FLOW_CHANNELS = 2
_REST = 128  # of 8 bits of flow


@dataclass(frozen=True, slots=True)
class Turns:
    """Which class a clip shows after it was mirrored, or reversed in time: numbers of (K,) classes; None: never do."""

    mirrored: Sequence[int] | None = None
    reversed: Sequence[int] | None = None


def drawn(
    clip: Pixels, target: Target, clips: ClipDefaults, turns: Turns, rng: np.random.Generator
) -> tuple[Pixels, Target]:
    """A random crop (T, H, W, C) of ``clip`` in time and space, perhaps mirrored and reversed, and what it shows."""
    clip = _frames(clip, clips, _anywhere(len(clip) - _span(clips), rng))
    side = clips.crop_px
    top, left = (_anywhere(size - side, rng) for size in clip.shape[1:3])
    clip = clip[:, top : top + side, left : left + side]
    if turns.mirrored is not None and rng.random() < 0.5:
        clip, target = mirrored(clip), target[turns.mirrored]
    if turns.reversed is not None and rng.random() < 0.5:
        clip, target = backwards(clip), target[turns.reversed]
    return clip, target


def mirrored(clip: Pixels) -> Pixels:
    """(T, H, W, C) left to right; motion along x too, in 8-bit flow."""
    clip = clip[:, :, ::-1]
    if clip.shape[3] == FLOW_CHANNELS:
        clip = np.concatenate([_opposite(clip[..., :1]), clip[..., 1:]], 3)
    return clip


def backwards(clip: Pixels) -> Pixels:
    """(T, H, W, C) last frame first; all motion the other way, in 8-bit flow."""
    clip = clip[::-1]
    return _opposite(clip) if clip.shape[3] == FLOW_CHANNELS else clip


def _opposite(flow: Pixels) -> Pixels:
    """8 bits of the same motion the other way (`extract.flow.quantised`); rest stays rest."""
    return np.where(flow == _REST, flow, 255 - flow)


def views(clip: Pixels, clips: ClipDefaults, *, times: int, crops: int) -> Iterator[Pixels]:
    """``times`` clips (T, H, W, C), evenly over the length, each in its middle crop, or in 3 along the longer side."""
    room = max(0, len(clip) - _span(clips))
    side = clips.crop_px
    for at in range(times):
        start = room // 2 if times == 1 else round(at * room / (times - 1))
        frames = _frames(clip, clips, start)
        spare = np.array(frames.shape[1:3]) - side
        for share in (0.5,) if crops == 1 else (0.0, 0.5, 1.0):
            shares = np.where(np.arange(2) == spare.argmax(), share, 0.5)
            top, left = (int(room_px * part) for room_px, part in zip(spare, shares, strict=True))
            yield frames[:, top : top + side, left : left + side]
        if room == 0:
            return  # all the others are the same


def to_input(clips: Sequence[Pixels], recipe: ClipDefaults) -> Tensor:
    """(T, H, W, C) uint8 each, RGB or flow -> (B, C, T, H, W) float32, normalised, in the recipe's order of colours."""
    pixels = torch.from_numpy(np.ascontiguousarray(np.stack(clips))).permute(0, 4, 1, 2, 3)
    if recipe.colour == "bgr":
        pixels = pixels.flip(1)
    channels = pixels.shape[1]
    mean, std = (torch.tensor(values[:channels]).view(1, -1, 1, 1, 1) for values in (recipe.mean, recipe.std))
    normal: Tensor = (pixels.float() / 255 - mean) / std
    return normal


def relit(x: Tensor) -> Tensor:
    """Another contrast (0.8 to 1.2 times) and brightness (up to 0.3 deviations) for each clip of (B, C, T, H, W)."""
    contrast, brightness = torch.empty(2, len(x), 1, 1, 1, 1)
    other: Tensor = x * contrast.uniform_(0.8, 1.2) + brightness.uniform_(-0.3, 0.3)
    return other


def _span(clips: ClipDefaults) -> int:
    return (clips.clip_frames - 1) * clips.frame_stride + 1


def _frames(clip: Pixels, clips: ClipDefaults, start: int) -> Pixels:
    """The T frames from ``start`` on; the last one again where there are too few."""
    wanted = start + np.arange(clips.clip_frames) * clips.frame_stride
    return clip[np.minimum(wanted, len(clip) - 1)]


def _anywhere(room: int, rng: np.random.Generator) -> int:
    """Draws nothing where there is no choice."""
    return int(rng.integers(room + 1)) if room > 0 else 0
