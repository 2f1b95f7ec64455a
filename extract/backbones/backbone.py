"""A frozen network, and what can be asked of it.

Shapes as in `extract.backbones.network`.
"""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import get_ident

import torch
from torch import Tensor, nn

from extract.backbones import anatomy
from extract.backbones.images import ImageNetwork
from extract.backbones.network import Network, roi_features, traced
from extract.backbones.recurrent import RecurrentConv
from extract.backbones.spec import BackboneSpec
from extract.backbones.tracing import Tracer
from extract.errors import UsageError


class Backbone:
    """A frozen network in eval mode, without gradients.

    Attributes:
        name: its name, as in `extract.backbones.backbone_spec`.
        spec: its description.
        weights_sha256: digest of all tensors (names, shapes, bytes) but counters that change nothing, whatever file
            they are from. Empty where the network is on torch's meta device, without weights.
        network: the torch module.
    """

    def __init__(self, name: str, spec: BackboneSpec, network: Network) -> None:
        self.name, self.spec = name, spec
        self.network = network.eval().requires_grad_(False)
        self._layers: set[str] = set()  # that can be asked for
        without_weights = any(parameter.is_meta for parameter in network.parameters())
        self.weights_sha256 = "" if without_weights else weights_digest(network)

    def features(self, clips: Tensor, boxes: Tensor | None = None, *, layer: str | None = None) -> Tensor:
        """(B, C, T, H, W) float32, normalised -> (B, D), the input of the last linear layer.

        With ``boxes`` (N, 5) = clip in the batch, x1, y1, x2, y2 in pixels of the clip, one row a box: (N, D), from
        RoIAlign over the maps; detection networks have no other features. With ``layer``, a module's name such
        as ``body.res4``, the mean of that layer's maps over time and space.

        Raises:
            UsageError: clips or boxes of another shape, a box outside the batch, boxes missing, an unknown layer, or
                one that does not give maps.
        """
        self._check(clips)
        if layer is not None and layer not in self._layers:
            self.width(*clips.shape[2:], layer=layer)
            self._layers.add(layer)
        with torch.inference_mode():
            return self._features(clips, boxes, layer)

    def logits(self, clips: Tensor, boxes: Tensor | None = None) -> Tensor:
        """(B, C, T, H, W) float32, normalised -> (B, K), or (N, K) of ``boxes``, before any activation.

        Raises:
            UsageError: as `features`; or the weights came without a last layer.
        """
        self._check(clips)
        if isinstance(self.network.classifier, nn.Identity):
            raise UsageError(f"these weights of {self.name} have no last layer, so there are no logits; use features")
        if boxes is not None and not self.spec.detection:
            raise UsageError(f"{self.name} classifies whole clips; it gives features of boxes, but no logits")
        with torch.inference_mode():
            logits: Tensor = self.network.classifier(self._features(clips, boxes, None))
        return logits

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) float32, normalised -> (B, D', T', H', W'), the last maps before pooling.

        Raises:
            UsageError: clips of another shape; or a network whose maps are not known.
        """
        self._check(clips)
        with torch.inference_mode():
            return self.network.maps(clips)

    def layers(self) -> list[str]:
        """Names of all modules, for ``features(…, layer=…)``."""
        return [name for name, _ in self.network.named_modules() if name]

    def multiply_adds(self, frames: int, height: int, width: int) -> int:
        """Multiply-adds of one clip of this size, in convolutions and matrix products; nothing is computed."""
        network = self._shadow()
        run = network.maps if self.spec.detection else network
        return anatomy.multiply_adds(run, self._meta_clip(frames, height, width))

    def layer_table(self, frames: int, height: int, width: int) -> list[anatomy.Layer]:
        """Its layers in order of execution on one clip of this size; nothing is computed.

        Of networks that describe boxes, those before the boxes are read.

        Raises:
            UsageError: clips that the network cannot take.
        """
        clip, network = self._meta_clip(frames, height, width), self._shadow()
        self._check(clip)
        try:
            return anatomy.layers(network, network.maps if self.spec.detection else network, clip)
        except (RuntimeError, AssertionError) as error:
            raise self._refused(frames, height, width, error) from error

    def receptive_field(self) -> anatomy.Field:
        """How far each position of the maps sees, and how far apart positions lie, in frames and pixels."""
        clip = self._meta_clip(self.spec.clips.clip_frames, 224, 224)
        return anatomy.receptive_field(self._shadow().maps, clip)

    def width(self, frames: int, height: int, width: int, *, layer: str | None = None) -> int:
        """D of the features of clips of this size; nothing is computed.

        Raises:
            UsageError: clips that the network cannot take, or no such layer.
        """
        own = self.spec.clips
        if layer is None and (frames, height, width) == (own.clip_frames, own.crop_px, own.crop_px):
            return self.spec.feature_width  # saves seconds: torch imports its compiler to go through without numbers
        clip = self._meta_clip(frames, height, width)
        self._check(clip)
        shadow = self._shadow()
        try:
            if layer is not None:
                with torch.no_grad(), Tracer(clip) as tracer:
                    out = _output(shadow, clip, layer)
                _check_channels(layer, out, tracer)
                return _mean_over_maps(shadow, clip, layer, out).shape[1]
            return (shadow.maps if self.spec.detection else shadow.features)(clip).shape[1]
        except (RuntimeError, AssertionError) as error:
            raise self._refused(frames, height, width, error) from error

    def box_width(self, frames: int, short_side_px: int) -> int:
        """D of the features of boxes in clips of whole frames, whose shorter side is given; nothing is computed.

        Raises:
            UsageError: clips that the network cannot take, or it has no maps of frames of any size to read boxes from.
        """
        wide_px = short_side_px * 4 // 3
        clip = self._meta_clip(frames, short_side_px, wide_px)
        self._check(clip)
        try:
            maps = self._shadow().maps(clip)
        except (RuntimeError, AssertionError, UsageError) as error:  # each layer says so in its own way
            raise UsageError(
                f"{self.name} gives no maps of whole frames to read boxes from, such as of {frames} x "
                f"{short_side_px} x {wide_px}: {str(error).splitlines()[0].partition('; ')[0]}; take another backbone"
            ) from error
        stride = self.spec.stride_px
        if any(abs(have - px / stride) >= 1 for have, px in zip(maps.shape[3:], (short_side_px, wide_px), strict=True)):
            raise UsageError(
                f"{self.name} has maps of {maps.shape[3]} x {maps.shape[4]} for frames of {short_side_px} x {wide_px}; "
                f"expected one position in {stride} px to read boxes from. Take another backbone"
            )
        return maps.shape[1]

    def _refused(self, frames: int, height: int, width: int, error: Exception) -> UsageError:
        """A layer that does not take this size says so in its own way."""
        own = self.spec.clips
        return UsageError(
            f"{self.name} cannot take clips of {frames} x {height} x {width}: {str(error).splitlines()[0]}; "
            f"its own are {own.clip_frames} x {own.crop_px} x {own.crop_px}"
        )

    @property
    def parameters(self) -> int:
        """How many trained numbers the network has."""
        return anatomy.parameters(self.network)

    def _shadow(self) -> Network:
        return copy.deepcopy(self.network).to("meta")

    def _meta_clip(self, frames: int, height: int, width: int) -> Tensor:
        return torch.empty(1, self.spec.channels, frames, height, width, device="meta")

    def _features(self, clips: Tensor, boxes: Tensor | None, layer: str | None) -> Tensor:
        if layer is not None:
            if boxes is not None:
                raise UsageError(f"boxes and layer {layer!r} at once: boxes are read from the last maps; ask for one")
            return layer_features(self.network, clips, layer)
        if boxes is None and not self.spec.detection:
            return self.network.features(clips)
        if boxes is None:
            raise UsageError(f"{self.name} describes boxes: expected boxes (N, 5) = clip, x1, y1, x2, y2 in pixels")
        _check_boxes(boxes, len(clips))
        boxes = boxes.to(clips.device, clips.dtype)
        maps = self.network.maps(clips)
        return roi_features(maps, boxes, stride_px=self.spec.stride_px, aligned=self.spec.roi_aligned)

    def _check(self, clips: Tensor) -> None:
        channels = self.spec.channels
        if clips.ndim != 5 or clips.shape[1] != channels:
            raise UsageError(f"clips have shape {tuple(clips.shape)}; expected (B, {channels}, T, H, W)")
        if not clips.is_floating_point():
            raise UsageError(f"clips are {clips.dtype}; expected normalised float32 (x / 255 - mean) / std")
        least = self.spec.least
        if any(have < want for have, want in zip(clips.shape[2:], least, strict=True)):
            raise UsageError(f"clips are {tuple(clips.shape[2:])}; {self.name} expected at least {least} (T, H, W)")


def layer_features(network: Network, clips: Tensor, layer: str) -> Tensor:
    """(B, C, T, H, W) -> (B, D): the output of module ``layer``, averaged over all dimensions behind the second,
    and over frames where the network sees them one by one.

    Raises:
        UsageError: no such module, or one that does not run or gives no tensor of one row a clip.
    """
    return _mean_over_maps(network, clips, layer, _output(network, clips, layer))


def _mean_over_maps(network: Network, clips: Tensor, layer: str, out: object) -> Tensor:
    if isinstance(network, ImageNetwork) and isinstance(out, Tensor):
        out = out.reshape(len(clips), -1, *out.shape[1:]).mean(1)
    if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(clips):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UsageError(f"layer {layer!r} gives {shape}, not (B, D) or (B, D, …) of {len(clips)} clips")
    return out.flatten(2).mean(2) if out.ndim > 2 else out


def _output(network: Network, clips: Tensor, layer: str) -> object:
    """What module ``layer`` gives. Errors as `layer_features`."""
    with _watched(network, layer) as seen:
        owner = layer.rpartition(".")[0]
        if isinstance(network.get_submodule(owner), RecurrentConv) and layer.endswith(".state"):
            raise UsageError(f"layer {layer!r} runs once for each frame, on the state before it; take {owner!r}")
        _run_until_seen(network, clips, seen)
    if not seen:
        raise UsageError(f"layer {layer!r} does not run when the network computes its logits; take another")
    return seen[0]


def _check_channels(layer: str, out: object, tracer: Tracer) -> None:
    """Refuse a layer that has positions where `layer_features` takes channels."""
    seen = tracer.seen(out) if isinstance(out, Tensor) and out.ndim > 2 else None
    if seen is not None and any(part.axes for part in seen.layout[1]):
        raise UsageError(
            f"layer {layer!r} gives {tuple(seen.positions())} values with its channels last; expected channels behind "
            "the batch, (B, D, …), as convolutions give them. Take another layer, or none"
        )


class _SeenError(Exception):
    """Ends a pass whose rest need not run."""


def _run_until_seen(network: Network, clips: Tensor, seen: list[object]) -> None:
    if not traced():
        with suppress(_SeenError):
            network(clips)
        return
    # A tracer does not bear exceptions, and leaves out of its graph what nobody needs. Maps come first, because they
    # take clips of more sizes than what is behind them.
    (network.features if isinstance(network, ImageNetwork) else network.maps)(clips)
    if not seen:
        network(clips)


@contextmanager
def _watched(network: nn.Module, layer: str) -> Iterator[list[object]]:
    """What module ``layer`` puts out in a pass of the network, in a list; it ends the pass where that can be."""
    known = dict(network.named_modules())
    if not layer or layer not in known:
        names = [name for name in known if name and name.count(".") < 2]
        raise UsageError(f"no layer {layer!r}; there are {', '.join(names[:30])} …; all: load_backbone(…).layers()")
    seen: list[object] = []
    watcher = get_ident()

    def note(_module: nn.Module, _given: object, out: object) -> None:
        if get_ident() != watcher:  # a pass in another thread, which has its own
            return
        if not traced():
            seen.append(out)
            raise _SeenError
        seen.append(out.clone() if isinstance(out, Tensor) else out)  # what follows may compute in place

    hook = known[layer].register_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def _check_boxes(boxes: Tensor, clips: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise UsageError(f"boxes have shape {tuple(boxes.shape)}; expected (N, 5) = clip, x1, y1, x2, y2 in pixels")
    wrong = (boxes[:, 0] < 0) | (boxes[:, 0] >= clips) | (boxes[:, 0] % 1 != 0)
    wrong |= (boxes[:, 3] <= boxes[:, 1]) | (boxes[:, 4] <= boxes[:, 2]) | ~boxes.isfinite().all(1)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise UsageError(
            f"box {first} is {boxes[first].tolist()}; expected clip in 0..{clips - 1}, x1 < x2, y1 < y2 in pixels"
        )


def weights_digest(network: nn.Module) -> str:
    """Hexadecimal sha256. BatchNorm's counter of batches is left out: not every file format has it."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(memoryview(tensor.contiguous().numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()
