"""Non-local blocks: Wang et al., "Non-local Neural Networks" (CVPR 2018), figure 2 and section 3.3.

Shapes as in `extract.backbones.network`; S positions in time and space, P of them after pooling.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.network import Triple
from extract.errors import UsageError

Instantiation = Literal["softmax", "dot_product"]


class NonLocal(nn.Module):
    """Every position looks at all others: x + norm(out(weights @ g)), with half the channels inside.

    Args:
        width: channels of its input and output.
        instantiation: "softmax": weights are softmax(theta phi / sqrt(C / 2)); "dot_product": theta phi / P.
        pool: window and stride of the maximum before phi and g.

    The last norm begins at zero, so that a new block changes nothing until it is trained (section 4.1 there).
    """

    def __init__(self, width: int, *, instantiation: Instantiation = "softmax", pool: Triple = (1, 2, 2)) -> None:
        super().__init__()
        inner = width // 2
        self._softmax, self._pool = instantiation == "softmax", pool
        self.theta, self.phi, self.g = (nn.Conv3d(width, inner, 1) for _ in range(3))
        self.out, self.norm = nn.Conv3d(inner, width, 1), nn.BatchNorm3d(width)
        nn.init.zeros_(self.norm.weight)

    def extra_repr(self) -> str:
        """What its tensors do not tell."""
        return f"softmax={self._softmax}, pool={self._pool}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        pooled = functional.max_pool3d(x, self._pool, self._pool)
        theta = self.theta(x).flatten(2).transpose(1, 2)  # (B, S, C')
        phi, g = self.phi(pooled).flatten(2), self.g(pooled).flatten(2)  # (B, C', P)
        scores = theta @ phi  # (B, S, P)
        weights = (scores * theta.shape[2] ** -0.5).softmax(2) if self._softmax else scores / phi.shape[2]
        seen = (weights @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        added: Tensor = self.norm(self.out(seen))
        return x + added


def insert_nonlocal(
    network: nn.Module,
    where: Iterable[str],
    *,
    instantiation: Instantiation = "softmax",
    pool: Triple = (1, 2, 2),
    channels: int = 3,
) -> nn.Module:
    """Put a `NonLocal` block behind each module of ``network`` that ``where`` names, in place; returns ``network``.

    A module ``res3.1`` becomes a sequence of ``res3.1.block``, itself, and ``res3.1.nonlocal_``. The network's outputs
    stay as they are until the new blocks are trained. ``channels`` are those of the network's clips.

    Raises:
        UsageError: a name that is no module of the network (the message lists the nearest), or one whose output
            is no (B, C, T, H, W).
    """
    names = list(where)
    known = dict(network.named_modules())
    for name in names:
        if name not in known:
            raise UsageError(f"the network has no module {name!r}; its modules are {', '.join(_top(known))} …")
    for name, width in _widths(network, names, channels).items():
        parent, _, child = name.rpartition(".")
        block = NonLocal(width, instantiation=instantiation, pool=pool).train(known[name].training)
        like = next(known[name].parameters(), None)
        if like is not None:
            block.to(like.device, like.dtype)
        wrapped = nn.Sequential(OrderedDict([("block", known[name]), ("nonlocal_", block)]))
        setattr(known[parent], child, wrapped)
    return network


def _top(known: Iterable[str]) -> list[str]:
    return [name for name in known if name and name.count(".") < 2][:20]


def _widths(network: nn.Module, names: list[str], channels: int) -> dict[str, int]:
    """Channels that each named module puts out, found with shapes alone."""
    found: dict[str, int] = {}
    shadow = copy.deepcopy(network).to("meta").eval()

    def note(name: str, out: object) -> None:
        if not isinstance(out, Tensor) or out.ndim != 5:
            raise UsageError(f"{name} gives no maps (B, C, T, H, W); a non-local block cannot stand behind it")
        found[name] = out.shape[1]

    for name in names:
        shadow.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: note(name, out))
    clips = torch.zeros(1, channels, 32, 112, 112, device="meta")
    run = getattr(shadow, "maps", shadow)
    with torch.no_grad():
        run(clips)
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(f"{missing[0]} is not used when the network runs; a non-local block cannot stand behind it")
    return found
