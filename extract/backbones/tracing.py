"""What every tensor of a network has seen of the clip, followed from operator to operator, from shapes alone.

A dimension of a tensor may hold time, height or width, or several of them (frames in the batch, tokens, early fusion's
channels): a `Layout` says which. Shapes as in `extract.backbones.network`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

AXES = 3  # time, height, width
Along = tuple[float, ...]  # of each axis


@dataclass(frozen=True, slots=True)
class Part:
    """A dimension of a tensor, or a factor of one.

    Attributes:
        axes: what lies along it: 0 time, 1 height, 2 width; nothing for batch and channels.
        positions: how many.
        step: how far apart they are, in positions of the axis.
    """

    axes: frozenset[int]
    positions: int
    step: int = 1


Layout = tuple[tuple[Part, ...], ...]  # of each dimension, outermost first; none for a dimension of size 1
_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """What one position of a tensor sees of the clip, along time, height and width, in frames and pixels.

    Attributes:
        layout: where its positions are.
        size: how far it sees. Infinity: the whole clip (pooling over all, or attention). Minus infinity: nothing, as
            the state that recurrent layers begin with.
        stride: how far apart neighbouring positions see.
        start: where the first position's view begins, of tensors that were cut out.
        picked: whether it was cut out of time.
    """

    layout: Layout
    size: Along = (1.0,) * AXES
    stride: Along = (1.0,) * AXES
    start: Along = (0.0,) * AXES
    picked: bool = False

    def positions(self) -> tuple[int, ...]:
        """(C, T, H, W); where axes share a dimension, as tokens do, their common number in their place."""
        counts = {frozenset({axis}): 1 for axis in range(AXES)}
        parts = [part for dim in self.layout for part in dim]
        for axes in (part.axes for part in parts if len(part.axes) > 1):
            counts = {kept: 1 for kept in counts if not kept <= axes} | {axes: 1}
        channels = 1
        for part in parts:
            if not part.axes:
                channels *= part.positions
            elif part.axes in counts:
                counts[part.axes] *= part.positions
        return channels, *(counts[axes] for axes in sorted(counts, key=min))


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows what each tensor computed inside has seen of (B, C, T, H, W) ``clips``."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[Any, Seen]] = {}
        axes = (_NOTHING, _NOTHING, *(frozenset({axis}) for axis in range(AXES)))
        self._put(clips, _fitted(Seen(tuple((Part(a, 0),) for a in axes)), clips.shape))

    def seen(self, tensor: Tensor) -> Seen | None:
        """What ``tensor`` has seen; None where no clip went into it."""
        known = self._known.get(id(tensor))
        return None if known is None else known[1]

    def known(self, tensor: Tensor) -> Seen:
        """What ``tensor`` has seen, into which the clips went."""
        return self._known[id(tensor)][1]

    def noted(self, operator: Any, args: Any, outs: list[Tensor]) -> None:  # noqa: ANN401
        """Is called after each operator, for those who derive."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run ``func``, and note what its results have seen."""
        out = func(*args, **(kwargs or {}))
        outs = tensors([out])
        if any(self.seen(tensor) is not None for tensor in tensors(args)):
            call = _Call(args, self.seen, outs)
            for tensor, seen in zip(outs, _follow(func.overloadpacket, call), strict=True):
                self._put(tensor, _fitted(seen, tensor.shape))
        self.noted(func.overloadpacket, args, outs)
        return out

    def _put(self, tensor: Tensor, seen: Seen) -> None:
        key = id(tensor)
        self._known[key] = (ref(tensor, lambda _gone: self._known.pop(key, None)), seen)


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among ``values``, and in the lists among them."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in flat if isinstance(item, Tensor)]


@dataclass(frozen=True, slots=True)
class _Call:
    """One operator's arguments and results."""

    args: Any
    look: Callable[[Tensor], Seen | None]
    outs: list[Tensor]

    @property
    def known(self) -> list[Seen]:
        return [seen for tensor in tensors(self.args) if (seen := self.look(tensor)) is not None]

    @property
    def first(self) -> Seen | None:
        return self.look(self.args[0]) if isinstance(self.args[0], Tensor) else None

    def dim(self, at: int, default: int = 0) -> int:
        """Argument ``at`` as the number of a dimension of the first one."""
        dim: int = self.args[at] if len(self.args) > at else default
        ndim: int = self.args[0].ndim
        return dim % ndim


_Rule = Callable[[Seen, _Call], list[Seen]]  # of the first argument, and all of them


def _follow(operator: Any, call: _Call) -> list[Seen]:  # noqa: ANN401
    """What the results of ``operator`` have seen; operators without a rule work position by position.

    So does softmax: over the positions of attention, it sees what the product behind it sees.
    """
    rule, first = RULES.get(operator), call.first
    if rule is None or (first is None and operator not in _OF_SEVERAL):
        return _elementwise(call)
    return rule(first or _met(call.known), call)


def _elementwise(call: _Call) -> list[Seen]:
    """Each dimension holds what it holds in the first input that has it; inputs are aligned at their last one."""
    met, layouts = _met(call.known), sorted((seen.layout for seen in call.known), key=len, reverse=True)
    return [replace(met, layout=tuple(_dim(layouts, at) for at in range(-out.ndim, 0))) for out in call.outs]


def _dim(layouts: Iterable[Layout], at: int) -> tuple[Part, ...]:
    dims = [layout[at] for layout in layouts if -at <= len(layout) and layout[at]]
    return next((dim for dim in dims if _axes(dim)), dims[0] if dims else ())


def _met(seen: Sequence[Seen]) -> Seen:
    """Branches that meet see what any of them sees."""
    seen = [s for s in seen if s.size[0] > -math.inf] or seen
    start = _along(min, [s.start for s in seen])
    stops = [_along(sum, [s.start, s.size]) for s in seen]
    size = _along(lambda pair: pair[0] - pair[1], [_along(max, stops), start])
    return Seen((), size, _along(min, [s.stride for s in seen]), start, any(s.picked for s in seen))


def _along(combine: Callable[[Sequence[float]], float], values: Sequence[Along]) -> Along:
    return tuple(combine(each) for each in zip(*values, strict=True))


def _fitted(seen: Seen, shape: Sequence[int]) -> Seen:
    """With a layout whose positions multiply up to ``shape``: what changed its size holds what it held."""
    layout = seen.layout if len(seen.layout) == len(shape) else ((),) * len(shape)
    return replace(seen, layout=tuple(_fitted_dim(dim, size) for dim, size in zip(layout, shape, strict=True)))


def _fitted_dim(dim: tuple[Part, ...], size: int) -> tuple[Part, ...]:
    if math.prod(part.positions for part in dim) == size:
        return tuple(part for part in dim if part.positions > 1)
    return (Part(_axes(dim), size, dim[-1].step if dim else 1),) if size != 1 else ()


def _axes(dim: Iterable[Part]) -> frozenset[int]:
    return frozenset().union(*(part.axes for part in dim))


def _nothing(_first: Seen, call: _Call) -> list[Seen]:
    return [Seen(((),) * out.ndim, size=(-math.inf,) * AXES) for out in call.outs]


# Operators that look at several positions at once


def _windowed(seen: Seen, kernel: Sequence[float], stride: Sequence[float], dilation: Sequence[int]) -> Seen:
    """Kernels along the last dimensions, which are (T,) H, W where their layout does not say otherwise.

    Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks" (Distill 2019), equation 2: a kernel k
    with dilation d widens the field by (k - 1) d strides; its stride multiplies the stride.
    """
    size, strides, layout = list(seen.size), list(seen.stride), list(seen.layout)
    for back, (k, step, d) in enumerate(zip(*(values[::-1] for values in (kernel, stride, dilation)), strict=True), 1):
        held = _axes(layout[-back])
        axis = min(held) if len(held) == 1 else AXES - back
        size[axis] += (k - 1) * d * strides[axis]
        strides[axis] *= step
        layout[-back] = (Part(frozenset({axis}), 0),)
    return replace(seen, size=tuple(size), stride=tuple(strides), layout=tuple(layout))


def _reduced(seen: Seen, dims: Iterable[int]) -> Seen:
    """Everything along ``dims`` at once."""
    if seen.size[0] == -math.inf:
        return seen
    dims = {dim % len(seen.layout) for dim in dims}
    gone = [part for dim in dims for part in seen.layout[dim]]
    kept = _axes(part for at, dim in enumerate(seen.layout) if at not in dims for part in dim)
    size = list(seen.size)
    for axis in _axes(gone):
        if axis in kept:  # a window of attention, counted as if it slid; shifted ones see up to a position more
            size[axis] += sum((p.positions - 1) * p.step for p in gone if axis in p.axes) * seen.stride[axis]
        else:
            size[axis] = math.inf
    return replace(seen, size=tuple(size))


def _convolution(seen: Seen, call: _Call) -> list[Seen]:
    _, weight, _, stride, _, dilation, *_ = call.args
    out = _windowed(_reduced(seen, [1]), weight.shape[2:], stride, dilation)
    return [replace(out, layout=(out.layout[0], (Part(_NOTHING, 0),), *out.layout[2:]))]


def _pool(seen: Seen, call: _Call) -> list[Seen]:
    kernel, stride = call.args[1], call.args[2] if len(call.args) > 2 and call.args[2] else call.args[1]
    return [_windowed(seen, kernel, stride, [1] * len(kernel))] * len(call.outs)


def _adaptive_pool(seen: Seen, call: _Call) -> list[Seen]:
    before, after = call.args[0].shape, call.outs[0].shape
    spatial = range(-len(call.args[1]), 0)
    whole = [dim for dim in spatial if after[dim] == 1]
    ratio = [1.0 if dim in whole else before[dim] / after[dim] for dim in spatial]
    kernel = [1 if dim in whole else _widest(before[dim], after[dim]) for dim in spatial]
    seen = _windowed(seen, kernel, ratio, [1] * len(ratio))
    reduced = _reduced(seen, whole)
    return [replace(seen, size=_along(max, [seen.size, reduced.size]))] * len(call.outs)


def _widest(before: int, after: int) -> int:
    """The widest window of adaptive pooling: from floor(i r) to ceil((i + 1) r), where r = before / after."""
    return max(-(-(at + 1) * before // after) - at * before // after for at in range(after))


def _statistic(seen: Seen, call: _Call) -> list[Seen]:
    """Mean, sum, maximum."""
    ndim = len(seen.layout)
    dims = call.args[1] if len(call.args) > 1 and call.args[1] is not None else range(ndim)
    gone = {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims)}
    keep = call.outs[0].ndim == ndim
    layout = tuple(() if at in gone else dim for at, dim in enumerate(seen.layout) if keep or at not in gone)
    return [replace(_reduced(seen, gone), layout=layout)] * len(call.outs)


def _layer_norm(seen: Seen, call: _Call) -> list[Seen]:
    out = _reduced(seen, range(-len(call.args[1]), 0))
    return [replace(out, layout=_dims_of(out.layout, tensor.ndim)) for tensor in call.outs]


def _dims_of(layout: Layout, ndim: int) -> Layout:
    return layout if len(layout) == ndim else ((),) * ndim


def _product(_first: Seen, call: _Call) -> list[Seen]:
    """Matrices (…, N, M) and (…, M, K), behind what is added to them."""
    left, right = (call.look(tensor) for tensor in call.args[-2:] if isinstance(tensor, Tensor))
    summed = [_reduced(seen, [dim]) for seen, dim in ((left, -1), (right, -2)) if seen is not None]
    if not summed:
        return _elementwise(call)
    rows = () if left is None else left.layout[-2]
    columns = () if right is None else right.layout[-1]
    batch = _dim([seen.layout[:-2] for seen in summed], -1)
    layout = (batch, rows, columns)[-call.outs[0].ndim :]
    return [replace(_met([*summed, *call.known]), layout=layout)]


# Operators that move positions


def _permuted(seen: Seen, call: _Call) -> list[Seen]:
    order = list(range(len(seen.layout)))
    if len(call.args) == 1:
        order.reverse()
    elif len(call.args) == 2:
        order = [dim % len(order) for dim in call.args[1]]
    else:
        one, two = call.dim(1), call.dim(2)
        order[one], order[two] = order[two], order[one]
    return [replace(seen, layout=tuple(seen.layout[dim] for dim in order))]


def _regrouped(seen: Seen, call: _Call) -> list[Seen]:
    """The same numbers in the same order, under another shape."""
    left = [part for dim in seen.layout for part in dim]
    dims: list[tuple[Part, ...]] = []
    for size in call.outs[0].shape:
        dim: list[Part] = []
        while size > 1 and left:
            part = left.pop(0)
            if part.positions > size:
                inner = max(1, part.positions // size)
                left.insert(0, Part(part.axes, inner, part.step))
                part = Part(part.axes, size, part.step * inner)
            dim.append(part)
            size = max(1, size // part.positions)
        dims.append(tuple(dim))
    return [replace(seen, layout=tuple(dims))]


def _expanded(seen: Seen, call: _Call) -> list[Seen]:
    new = call.outs[0].ndim - len(seen.layout)
    return [replace(seen, layout=((),) * new + seen.layout)]


def _cut(seen: Seen, dim: int, at: int, step: int = 1) -> Seen:
    """From position ``at`` of ``dim`` on, every ``step``-th."""
    axes = _axes(seen.layout[dim])
    if len(axes) != 1 or len(seen.layout[dim]) != 1:
        return seen
    start, stride, axis = list(seen.start), list(seen.stride), min(axes)
    start[axis] += at * seen.layout[dim][0].step * stride[axis]
    stride[axis] *= step
    return replace(seen, start=tuple(start), stride=tuple(stride))


def _sliced(seen: Seen, call: _Call) -> list[Seen]:
    dim, begin = call.dim(1), call.args[2] if len(call.args) > 2 and call.args[2] else 0
    begin = min(begin, call.args[0].shape[dim]) if begin >= 0 else max(0, begin + call.args[0].shape[dim])
    return [_cut(seen, dim, begin, call.args[4] if len(call.args) > 4 else 1)]


def _selected(seen: Seen, call: _Call) -> list[Seen]:
    return [_picked(seen, call.dim(1), call.args[2] % call.args[0].shape[call.dim(1)])]


def _unbound(seen: Seen, call: _Call) -> list[Seen]:
    return [_picked(seen, call.dim(1), at) for at in range(len(call.outs))]


def _picked(seen: Seen, dim: int, at: int) -> Seen:
    layout = seen.layout[:dim] + seen.layout[dim + 1 :]
    return replace(_cut(seen, dim, at), layout=layout, picked=seen.picked or 0 in _axes(seen.layout[dim]))


def _indexed(seen: Seen, call: _Call) -> list[Seen]:
    """By one list of positions along one dimension, which are taken for evenly spread."""
    where = [at for at, index in enumerate(call.args[1]) if index is not None]
    if len(where) != 1 or call.args[1][where[0]].ndim != 1:
        return _elementwise(call)
    before, after = call.args[0].shape[where[0]], call.outs[0].shape[where[0]]
    return [_cut(seen, where[0], 0, max(1, before // after))]


def _joined(_first: Seen, call: _Call, *, new: bool = False) -> list[Seen]:
    """Side by side along one dimension; moments that were picked out of time, along a ``new`` one, are time again."""
    seen = [s for tensor in call.args[0] if (s := call.look(tensor)) is not None]
    ndim = call.outs[0].ndim
    at = (call.args[1] if len(call.args) > 1 else 0) % ndim
    layouts = [(*s.layout[:at], (), *s.layout[at:]) if new else s.layout for s in seen]
    layout = [_dim(layouts, dim - ndim) for dim in range(ndim)]
    axes = _axes(part for each in layouts for part in each[at])
    if not any(each[at] for each in layouts) and all(s.picked for s in seen):
        axes = frozenset({0})
    layout[at] = (Part(axes, 0),)
    aligned = [replace(s, start=tuple(0.0 if a in axes else s.start[a] for a in range(AXES))) for s in seen]
    met = _met(aligned)
    return [replace(met, layout=tuple(layout), picked=met.picked and 0 not in axes)]


def _stacked(first: Seen, call: _Call) -> list[Seen]:
    return _joined(first, call, new=True)


_aten = torch.ops.aten
_FRESH = (_aten.new_zeros, _aten.new_ones, _aten.new_full, _aten.zeros_like, _aten.ones_like, _aten.full_like)
POOLS = (
    _aten.max_pool2d_with_indices,
    _aten.max_pool3d_with_indices,
    _aten.avg_pool2d,
    _aten.avg_pool3d,
)
ADAPTIVE_POOLS = (
    _aten._adaptive_avg_pool2d,
    _aten._adaptive_avg_pool3d,
    _aten.adaptive_max_pool2d,
    _aten.adaptive_max_pool3d,
)
STATISTICS = (_aten.mean, _aten.sum, _aten.amax)
PRODUCTS = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm)
_OF_SEVERAL = (*PRODUCTS, _aten.cat, _aten.stack)
RULES: Mapping[Any, _Rule] = MappingProxyType(
    {
        **dict.fromkeys(_FRESH, _nothing),
        _aten.convolution: _convolution,
        **dict.fromkeys(POOLS, _pool),
        **dict.fromkeys(ADAPTIVE_POOLS, _adaptive_pool),
        **dict.fromkeys(STATISTICS, _statistic),
        **dict.fromkeys(PRODUCTS, _product),
        _aten.native_layer_norm: _layer_norm,
        **dict.fromkeys((_aten.permute, _aten.transpose, _aten.t), _permuted),
        **dict.fromkeys((_aten.view, _aten._unsafe_view, _aten.squeeze, _aten.unsqueeze), _regrouped),
        _aten.expand: _expanded,
        _aten.slice: _sliced,
        _aten.select: _selected,
        _aten.unbind: _unbound,
        _aten.index: _indexed,
        _aten.cat: _joined,
        _aten.stack: _stacked,
    }
)
