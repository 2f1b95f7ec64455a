"""What a network costs and what one position of its maps sees, found from shapes alone, in all and layer by layer.

Shapes as in `extract.backbones.network`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from extract.backbones.network import Triple
from extract.backbones.tracing import ADAPTIVE_POOLS, POOLS, PRODUCTS, STATISTICS, Seen, Tracer, tensors

Kind = Literal["convolution", "maximum", "mean", "linear", "attention", "recurrent"]
ITSELF = "network"
_What = tuple[Kind, tuple[int, ...], tuple[int, ...], int]


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

    Follows every operator (`extract.backbones.tracing`); branches that meet give the wider field. The stride is that of
    the shapes, so choose clips that they divide.
    """
    with torch.no_grad(), Tracer(clips) as tracer:
        out = run(clips)
    stride = tuple(before / after for before, after in zip(clips.shape[2:], out.shape[2:], strict=True))
    return Field(tracer.known(out).size, stride)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it ran.

    Attributes:
        name: the module that ran; "network" for what the network does itself, outside of its modules.
        kind: "mean" and "maximum" pool; "attention" is everything that one module does with products of maps.
        kernel: of convolution and pooling, along (T,) H, W; of means over all positions, how many.
        stride: of the kernel.
        groups: of a convolution.
        calls: how often it ran, one time after the other, as recurrent ones do at each moment.
        output: (C, T, H, W) of what it gives in one call. Where axes share a dimension, their common number of
            positions stands in their place: (C, N) for tokens of space-time, (C, T, N) for tokens of frames.
        sees: (T, H, W) of the clip that one position of the output sees: the theoretical receptive field, or the clip's
            size where that is smaller.
        parameters: trained numbers that meet the clip here, with norms and whatever else follows.
        multiply_adds: of all calls.
    """

    name: str
    kind: Kind
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    calls: int
    output: tuple[int, ...]
    sees: Triple
    parameters: int
    multiply_adds: int


def layers(network: nn.Module, run: Callable[[Tensor], object], clips: Tensor) -> list[Layer]:
    """The layers that compute in ``run(clips)``, in order of execution.

    Activations and norms are left out. Multiply-adds are those of `multiply_adds`, parameters those of `parameters`
    that were used.

    Args:
        network: whose modules give the names.
        run: the network, or one of its methods.
        clips: (1, C, T, H, W) on torch's meta device, where nothing is computed. (Elsewhere a device's own operators,
            such as an LSTM in one, are not known.)
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad(), _Rows(network, clips, counter) as rows:
        run(clips)
    return rows.layers


class _Rows(Tracer):
    """Makes a row of each operator that computes."""

    def __init__(self, network: nn.Module, clips: Tensor, counter: FlopCounterMode) -> None:
        super().__init__(clips)
        self.layers: list[Layer] = []
        self._network, self._clips, self._counter = network, clips, counter
        self._inside: list[tuple[str, nn.Module]] = [("", network)]
        self._counted = 0
        self._made_by: dict[int, tuple[Any, int]] = {}  # of tensors of the clip, the row that they come from
        self._held: dict[int, tuple[Any, frozenset[int]]] = {}  # of other tensors, the parameters that they come from
        self._unmet = {id(parameter): parameter.numel() for parameter in network.parameters()}
        for parameter in network.parameters():
            self._hold(parameter, frozenset({id(parameter)}))

    def __enter__(self) -> "_Rows":
        super().__enter__()  # type: ignore[no-untyped-call]
        self._hooks = [hook for name, module in self._network.named_modules() for hook in self._watch(name, module)]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        def leave(_module: nn.Module, _given: object, out: object) -> None:
            self._inside.pop()
            self._left(name, out)

        enter = module.register_forward_pre_hook(lambda _module, _given: self._inside.append((name, module)))
        return [enter, module.register_forward_hook(leave)]

    def _left(self, name: str, out: object) -> None:
        """What a module gives as a whole, where several operators made it."""
        if not self.layers or self.layers[-1].name != (name or ITSELF):
            return
        given = [seen for tensor in tensors([out]) if (seen := self.seen(tensor)) is not None]
        if given and self.layers[-1].kind in ("linear", "attention", "recurrent"):
            self.layers[-1] = replace(self.layers[-1], output=given[0].positions(), sees=self._sees(given[0]))

    def noted(self, operator: Any, args: Any, outs: list[Tensor]) -> None:  # noqa: ANN401
        """Make a row, or give what it is about to its row."""
        given = tensors(args)
        held = frozenset[int]().union(*(self._held[id(t)][1] for t in given if id(t) in self._held))
        seen = [s for tensor in outs if (s := self.seen(tensor)) is not None]
        if not seen:
            for tensor in outs:
                self._hold(tensor, held)
            return
        made_by = max((self._made_by[id(t)][1] for t in given if id(t) in self._made_by), default=-1)
        layer = self._layer(operator, args, seen[0])
        if layer is not None:
            self._add(layer)
            made_by = len(self.layers) - 1
        if made_by < 0:
            return
        more = sum(self._unmet.pop(key, 0) for key in held)
        self.layers[made_by] = replace(self.layers[made_by], parameters=self.layers[made_by].parameters + more)
        for tensor in outs:
            _remember(self._made_by, tensor, made_by)

    def _hold(self, tensor: Tensor, held: frozenset[int]) -> None:
        if held:
            _remember(self._held, tensor, held)

    def _layer(self, operator: Any, args: Any, seen: Seen) -> Layer | None:  # noqa: ANN401
        """The row of one operator; None where it does not compute. What parameters alone cost is in the next row."""
        what = self._what(operator, args, seen)
        if what is None:
            return None
        kind, kernel, stride, groups = what
        total = self._counter.get_total_flops()
        flops, self._counted = total - self._counted, total
        name, module = self._inside[-1]
        return Layer(
            name=name or ITSELF,
            kind="recurrent" if isinstance(module, nn.RNNBase) else kind,
            kernel=kernel,
            stride=stride,
            groups=groups,
            calls=1,
            output=seen.positions(),
            sees=self._sees(seen),
            parameters=0,
            multiply_adds=flops // 2,
        )

    def _what(self, operator: Any, args: Any, seen: Seen) -> _What | None:  # noqa: ANN401
        """Kind, kernel, stride and groups."""
        name = operator.__name__
        pool: Kind = "maximum" if "max" in name else "mean"
        if operator is torch.ops.aten.convolution:
            return "convolution", tuple(args[1].shape[2:]), tuple(args[3]), args[8]
        if operator in POOLS:
            return pool, tuple(args[1]), tuple(args[2] if len(args) > 2 and args[2] else args[1]), 1
        if operator in PRODUCTS:
            return "attention" if "bmm" in name else "linear", (), (), 1
        before = self.seen(args[0]) if operator in (*ADAPTIVE_POOLS, *STATISTICS) else None
        if before is None:
            return None
        pairs = list(zip(before.positions()[1:], seen.positions()[1:], strict=False))
        kernel = tuple(math.ceil(have / left) for have, left in pairs)
        if all(k == 1 for k in kernel):
            return None
        return pool, kernel, (1,) * len(kernel), 1

    def _add(self, layer: Layer) -> None:
        """A row of its own; or more of the row before, where the same module goes on."""
        last = self.layers[-1] if self.layers else None
        if last is None or last.name != layer.name:
            self.layers.append(layer)
            return
        macs = last.multiply_adds + layer.multiply_adds
        products = {"linear", "attention", "recurrent"}
        if {last.kind, layer.kind} <= products:
            kind: Kind = "attention" if "attention" in (last.kind, layer.kind) else layer.kind
            self.layers[-1] = replace(layer, kind=kind, parameters=last.parameters, multiply_adds=macs)
        elif last.kind == layer.kind == "convolution" and last.output == layer.output:
            self.layers[-1] = replace(layer, calls=last.calls + 1, parameters=last.parameters, multiply_adds=macs)
        else:
            self.layers.append(layer)

    def _sees(self, seen: Seen) -> Triple:
        time, height, width = (
            math.ceil(max(0, min(size, clip))) for size, clip in zip(seen.size, self._clips.shape[2:], strict=True)
        )
        return time, height, width


def _remember(known: dict[int, tuple[Any, Any]], tensor: Tensor, value: object) -> None:
    """Until ``tensor`` is gone, whose id another one may then have."""
    key = id(tensor)
    known[key] = (ref(tensor, lambda _gone: known.pop(key, None)), value)
