"""Recurrent networks over the frames of a clip: LSTMs over rows, recurrent convolutions over maps.

Shapes as in `extract.backbones.network`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from extract.backbones.images import ImageNetwork

Cell = Literal["tanh", "gru", "lstm"]
_GATES: dict[Cell, int] = {"tanh": 1, "gru": 3, "lstm": 4}
LARGEST_STATE = 256


class RecurrentConv(nn.Module):
    """A recurrent layer whose products are convolutions: each position has a state, and sees its neighbours' last one.

    With kernels of 1 x 1 every position is torch's ``RNN``, ``GRU`` or ``LSTM``, whose equations and order of gates
    these are. Sources: GRU, Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video
    Representations" (ICLR 2016), section 3, but for the reset, which acts behind the convolution of the state, as in
    torch, and there before it; LSTM, Shi et al., "Convolutional LSTM Network" (NeurIPS 2015), equation 3,
    without peepholes.

    Args:
        width_in: channels of its maps.
        width: channels of its state.
        kernel: height and width of the kernels, odd.
        cell: "tanh", the plain one: h' = tanh(W x + U h).
    """

    def __init__(self, width_in: int, width: int, *, kernel: int = 3, cell: Cell = "gru") -> None:
        super().__init__()
        self.cell, self.width = cell, width
        self.input = nn.Conv2d(width_in, _GATES[cell] * width, kernel, padding=kernel // 2)
        self.state = nn.Conv2d(width, _GATES[cell] * width, kernel, padding=kernel // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W), the state after each frame; it begins at zero."""
        seen = self.input(maps.transpose(1, 2).flatten(0, 1)).unflatten(0, (maps.shape[0], maps.shape[2]))
        hidden = memory = seen.new_zeros(maps.shape[0], self.width, *maps.shape[3:])
        states = []
        for at in range(maps.shape[2]):
            hidden, memory = self._step(seen[:, at], hidden, memory)
            states.append(hidden)
        return torch.stack(states, 2)

    def _step(self, seen: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The next state and memory (only LSTM's) from those before, (B, C', H, W)."""
        kept: Tensor = self.state(hidden)
        if self.cell == "tanh":
            return (seen + kept).tanh(), memory
        if self.cell == "gru":
            reset, update = (seen + kept)[:, : 2 * self.width].sigmoid().chunk(2, 1)
            fresh = (seen[:, 2 * self.width :] + reset * kept[:, 2 * self.width :]).tanh()
            return fresh + update * (hidden - fresh), memory
        enter, forget, fresh, leave = (seen + kept).chunk(4, 1)
        memory = forget.sigmoid() * memory + enter.sigmoid() * fresh.tanh()
        return leave.sigmoid() * memory.tanh(), memory


class RecurrentConvNetwork(ImageNetwork):
    """Stacked recurrent convolutions over the last maps of an image network; the state after the last frame counts.

    Args:
        trunk: as `ImageNetwork` takes it; it must have a layer ``avgpool`` behind its maps.
        clip: (C, T, H, W) of a clip.
        cell: as `RecurrentConv`.
        layers: how many recurrent layers.
    """

    def __init__(self, trunk: nn.Module, clip: Sequence[int], *, cell: Cell, layers: int = 2) -> None:
        super().__init__(trunk)
        maps_width = self.trunk_shape(clip)[0]
        self.end_with_maps()
        width = min(maps_width, LARGEST_STATE)
        self.recurrent = nn.Sequential(
            *(RecurrentConv(width if at else maps_width, width, cell=cell) for at in range(layers))
        )
        self.classifier = nn.Linear(width, self.classes)

    def maps(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, T, H', W'), the top layer's state after each frame."""
        states: Tensor = self.recurrent(super().maps(clips))
        return states

    def pool(self, maps: Tensor) -> Tensor:
        """(B, D, T, H', W') -> (B, D), the mean over positions of the last state."""
        return maps[:, :, -1].mean((2, 3))

    def features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, D)."""
        return self.pool(self.maps(clips))


class LSTMNetwork(ImageNetwork):
    """An LSTM over the rows of an image network's frames; its state after the last frame counts.

    Donahue et al., "Long-term Recurrent Convolutional Networks" (CVPR 2015); the last output, as in Carreira and
    Zisserman (CVPR 2017), section 2.1.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__(trunk)
        width = min(self.row_width, 2 * LARGEST_STATE)
        self.lstm = nn.LSTM(self.row_width, width, batch_first=True)
        self.classifier = nn.Linear(width, self.classes)

    def features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) normalised -> (B, D), the last state."""
        states: Tensor = self.lstm(self.rows(clips))[0]
        return states[:, -1]
