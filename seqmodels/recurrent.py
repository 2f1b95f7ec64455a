"""Recurrent heads over clip features.

B batch, T time steps, D feature width, H hidden width, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqmodels.head import Head, inputs_for
from seqmodels.masks import lengths

State = Tensor | tuple[Tensor, Tensor]
MEMORY_STEPS = 80
"""Longest dependency, in steps, that the gates remember before training (about the length of a video)."""


class RecurrentHead(Head):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014) over projected features, many-to-one or
    many-to-many.

    One logit row a video: fixed temporal components, the state after the last real step, and with ``both_ways`` beside
    it the state that read from the last step to the first. The gates start with memories of 1 to ``MEMORY_STEPS`` steps
    (chrono initialisation, Tallec & Ollivier 2018); with the usual start a state is forgotten after two steps and the
    order of far events is not learnt.

    One row a step (``per_step``): a trained projection; with ``both_ways`` a step's answer depends on what comes after
    it, without it `stream` answers as steps come.
    """

    def __init__(
        self,
        *,
        width: int,
        n_classes: int,
        per_step: bool,
        hidden: int,
        components: int,
        dropout: float,
        cell: type[nn.LSTM] | type[nn.GRU],
        both_ways: bool,
    ) -> None:
        super().__init__()
        self.per_step, self.both_ways = per_step, both_ways
        self.inputs, kept = inputs_for(width, per_step=per_step, components=components)
        self.project = nn.Linear(kept, hidden) if per_step else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.cells = cell(hidden if per_step else kept, hidden, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(hidden * (2 if both_ways else 1), n_classes)
        if not per_step:
            remember(self.cells, MEMORY_STEPS)

    def stages_of(self, steps: Tensor, mask: Tensor, _times: Tensor, /) -> Tensor:
        """One stage."""
        steps = self.drop(self.project(steps))
        packed = pack_padded_sequence(steps, lengths(mask).cpu(), batch_first=True, enforce_sorted=False)
        output, state = self.cells(packed)
        if self.per_step:
            states, _ = pad_packed_sequence(output, batch_first=True, total_length=steps.shape[1])
        else:
            last = state if isinstance(state, Tensor) else state[0]  # (directions, B, H)
            states = torch.cat(list(last), dim=1)
        logits: Tensor = self.out(self.drop(states))
        return logits[None]

    def stream(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The next steps of sequences ``(B, T, D)``, and the state that the call before gave (None: they begin) ->
        logits ``(B, T, C)`` and the state for the next call: those of the whole, whatever the pieces.

        Raises:
            ValueError: a head that answers for whole videos, or that reads both ways.
        """
        if self.both_ways or not self.per_step:
            raise ValueError("this head cannot answer as steps come; expected per_step, and not both_ways")
        output, state = self.cells(self.drop(self.project(self.inputs(features))), state)
        return self.out(self.drop(output)), state


@torch.no_grad()
def remember(cells: nn.LSTM | nn.GRU, steps: int) -> None:
    """Start the gates of one layer with time constants spread over 1 to ``steps`` steps.

    Forget bias ``log u`` with u uniform in [1, steps - 1], input bias ``-log u``: chrono initialisation,
    Tallec & Ollivier, "Can recurrent neural networks warp time?", ICLR 2018, equation 16. The update gate of a GRU
    is both gates in one: ``log u`` keeps the state.
    """
    size = cells.hidden_size
    times = torch.empty(size).uniform_(1, steps - 1).log()
    for name, bias in cells.named_parameters():  # of both directions
        if name.startswith("bias"):
            bias.zero_()
        if name.startswith("bias_ih"):
            bias[size : 2 * size] = times
            if isinstance(cells, nn.LSTM):
                bias[:size] = -times
