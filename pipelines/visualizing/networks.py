"""A backbone as one looks into it: logits with gradients with respect to pixels, and classes by name.

B clips, C channels (3 colours, or 2 of optical flow), T frames, H W pixels, K classes.
"""

import difflib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from extract.backbones import EMBEDDED, Backbone, load_backbone
from extract.download import Progress, say_nothing
from extract.engine import settle_device
from extract.errors import UsageError
from pipelines.notes import shown

_FLOW = 2


class Looked:
    """A frozen network that classifies whole clips.

    Args:
        backbone: with a last layer.
        device: where it computes, "cpu" or "cuda".

    Attributes:
        classes: names of its outputs; empty where they are not known.
        size: (C, T, H, W) of its own clips.
        is_flow: whether its clips are optical flow.

    Raises:
        UsageError: it describes boxes, or has no last layer.
    """

    def __init__(self, backbone: Backbone, *, device: str = "cpu") -> None:
        spec, network = backbone.spec, backbone.network
        if spec.detection:
            raise UsageError(f"{backbone.name} describes boxes and has no logits of clips; take another backbone")
        if not isinstance(network.classifier, nn.Linear):
            raise UsageError(f"these weights of {backbone.name} have no last layer, so there are no classes to look at")
        self.backbone, self._network = backbone, network.to(device)
        self._device, self._classes_count = device, network.classifier.out_features
        self.classes = _known_classes(backbone, self._classes_count)
        clips = spec.clips
        self.size = (spec.channels, clips.clip_frames, clips.crop_px, clips.crop_px)
        self.is_flow = spec.channels == _FLOW
        mean, std = (torch.tensor(values[: spec.channels]) for values in (clips.mean, clips.std))
        self._mean, self._std = (values.view(1, -1, 1, 1, 1).to(device) for values in (mean, std))
        self._flip = clips.colour == "bgr" and not self.is_flow

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, C, T, H, W) RGB or flow in 0..1, on any device -> (B, K), before any activation, with gradients."""
        x = pixels.to(self._device)
        x = (x.flip(1) if self._flip else x).sub(self._mean).div(self._std)
        with self._differentiable():
            logits: Tensor = self._network(x)
        return logits

    def answer(self, pixels: Tensor, number: int) -> tuple[float, float]:
        """Logit and probability (softmax) of class ``number`` for one clip (C, T, H, W) in 0..1."""
        with torch.no_grad():
            logits = self.logits(pixels[None])[0].double()
        return float(logits[number]), float(logits.softmax(0)[number])

    @property
    def mean(self) -> Tensor:
        """(C, 1, 1, 1) in 0..1: what the network takes for nothing, in the order of the pixels' channels."""
        mean = self._mean[0].cpu()
        return mean.flip(0) if self._flip else mean

    def number(self, text: str) -> int:
        """The number of a class from its name or its number.

        Raises:
            UsageError: there is no such class.
        """
        if text in self.classes:
            return self.classes.index(text)
        if text.isdecimal() and int(text) < self._classes_count:
            return int(text)
        if not self.classes:
            raise UsageError(
                f"--class {text}: {self.backbone.name} knows its {self._classes_count} classes by number alone; "
                f"expected 0 to {self._classes_count - 1}"
            )
        near = difflib.get_close_matches(text, self.classes, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"--class {text}: {hint}expected one of {shown(self.classes)}, or its number")

    def label(self, number: int) -> str:
        """The name of class ``number``, or the number where no names are known."""
        return self.classes[number] if self.classes else f"class {number}"

    def _differentiable(self) -> AbstractContextManager[object]:
        """CuDNN has no gradients of recurrent networks in eval mode; torch's own kernels have."""
        recurrent = any(isinstance(module, nn.RNNBase) for module in self._network.modules())
        return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def look_into(
    name: str = EMBEDDED, weights: str | None = None, *, device: str = "auto", on_progress: Progress = say_nothing
) -> Looked:
    """Backbone ``name`` with ``weights``, as `extract.load_backbone` has it, to be looked into.

    Raises:
        UsageError: as `Looked` and `extract.load_backbone`; or no such device.
        InputError, MachineError: the weights cannot be had.
    """
    return Looked(load_backbone(name, weights, on_progress=on_progress), device=settle_device(device))


def _known_classes(backbone: Backbone, count: int) -> Sequence[str]:
    classes: Sequence[str] = backbone.spec.classes
    if not classes and backbone.name == EMBEDDED:
        from pipelines.pretraining.worlds import CLASSES

        classes = CLASSES
    return classes if len(classes) == count else ()
