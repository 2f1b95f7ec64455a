"""What a network costs and what one position of its maps sees, found from shapes alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(run: Callable[[Tensor], object], clips: Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in ``run(clips)``; what papers of this field call FLOPs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(clips)
    total: int = counter.get_total_flops()
    return total // 2


def parameters(network: nn.Module) -> int:
    """How many trained numbers the network has; BatchNorm's running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True, slots=True)
class Field:
    """Along time, height and width, in frames and pixels: how far one position sees, and how far apart they lie.

    A size of infinity: the whole clip (pooling over all, or attention).
    """

    size: tuple[float, ...]
    stride: tuple[float, ...]


def receptive_field(run: Callable[[Tensor], Tensor], clips: Tensor) -> Field:
    """The theoretical receptive field of each position of ``run(clips)`` in (B, C, T, H, W) ``clips``.

    Follows every operator (Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill
    2019, equation 2): a kernel k with dilation d widens the field by (k - 1) d strides; its stride multiplies the
    stride; branches that meet give the wider one. The stride is that of the shapes, so choose clips that they divide.
    """
    with torch.no_grad(), _Fields(clips) as fields:
        out = run(clips)
    stride = tuple(before / after for before, after in zip(clips.shape[2:], out.shape[2:], strict=True))
    return Field(fields.of(out).size, stride)


class _Fields(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows the field of each tensor computed inside."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[Any, Field]] = {}
        self._put(clips, Field((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)))

    def of(self, tensor: Tensor) -> Field:
        """The field of ``tensor``; a tensor that no clip went into sees nothing."""
        return self._known[id(tensor)][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run ``func``, and note the fields of what it gives."""
        out = func(*args, **(kwargs or {}))
        seen = [self._known[id(t)][1] for t in _tensors(args) if id(t) in self._known]
        if seen:
            field = _through(func.overloadpacket, args, _widest(seen))
            for tensor in _tensors([out]):
                self._put(tensor, field)
        return out

    def _put(self, tensor: Tensor, field: Field) -> None:
        key = id(tensor)
        self._known[key] = (ref(tensor, lambda _gone: self._known.pop(key, None)), field)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in flat if isinstance(item, Tensor)]


def _widest(fields: list[Field]) -> Field:
    size = tuple(max(sizes) for sizes in zip(*(f.size for f in fields), strict=True))
    return Field(size, tuple(min(strides) for strides in zip(*(f.stride for f in fields), strict=True)))


_aten = torch.ops.aten
_WHOLE = (
    _aten.bmm,
    _aten._softmax,
    _aten._adaptive_avg_pool3d,
    _aten._adaptive_avg_pool2d,
)


def _through(func: Any, args: Any, field: Field) -> Field:  # noqa: ANN401
    """The field behind one operator, from the field before it."""
    if func is _aten.convolution:
        _, weight, _, stride, _, dilation, *_ = args
        return _strided(field, weight.shape[2:], stride, dilation)
    if func in (_aten.max_pool3d_with_indices, _aten.max_pool2d_with_indices, _aten.avg_pool3d, _aten.avg_pool2d):
        kernel, stride = args[1], args[2] if len(args) > 2 and args[2] else args[1]
        return _strided(field, kernel, stride, [1] * len(kernel))
    if func in _WHOLE or (func is _aten.mean and len(args) > 1 and 2 in [d % args[0].ndim for d in args[1]]):
        return Field((math.inf,) * 3, field.stride)
    if func is _aten.index:  # the slow pathway's frames
        ratio = args[0].shape[2] // args[1][2].shape[0]
        return Field(field.size, (field.stride[0] * ratio, *field.stride[1:]))
    return field


def _strided(field: Field, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Field:
    """2D operators see height and width alone."""
    alone = 3 - len(kernel)
    kernel, stride, dilation = ([1] * alone + list(values) for values in (kernel, stride, dilation))
    size = tuple(f + (k - 1) * d * s for f, k, d, s in zip(field.size, kernel, dilation, field.stride, strict=True))
    return Field(size, tuple(s * step for s, step in zip(field.stride, stride, strict=True)))
