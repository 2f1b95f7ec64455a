"""The loop that trains a clip model, and its test.

N clips, K classes.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.backbones import ClipDefaults, Network
from extract.engine import channels_last, has_amx
from extract.errors import UsageError
from extract.prefetch import Prefetch
from pipelines.pretraining.pool import Pool
from pipelines.pretraining.settings import PretrainSettings
from pipelines.pretraining.views import Pixels, Turns, drawn, relit, to_input, views

_AHEAD = 3
_TESTED = 32  # views that are tested together, at least


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done and in all, the epoch, and the loss of the last step."""

    step: int
    steps: int
    epoch: int
    loss: float


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Numbers below 1.2e-38 count as 0: processors are slow with them, and saturated cells' gradients have many."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(eq=False)
class Loop:
    """A pretraining between two epochs: everything that the next one depends on.

    Attributes:
        clips: the network's clip recipe.
        turns: which classes clips show when they are turned round.
        epoch: epochs done.
        figures: one mapping an epoch.
    """

    network: Network
    pool: Pool
    clips: ClipDefaults
    turns: Turns
    settings: PretrainSettings
    seed: int
    device: torch.device
    epoch: int = 0
    figures: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        channels_last(self.network.to(self.device))
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups)

    @property
    def steps_an_epoch(self) -> int:
        """Full batches; the few clips that are left over are others in each epoch."""
        return max(1, len(self.pool) // self.settings.batch)

    @property
    def steps(self) -> int:
        """In all epochs."""
        return self.settings.epochs * self.steps_an_epoch

    def state(self) -> dict[str, Any]:
        """For `restore`: plain values and tensors."""
        return {
            "epoch": self.epoch,
            "figures": [dict(each) for each in self.figures],
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of a loop of the same arguments."""
        self.epoch, self.figures = state["epoch"], list(state["figures"])
        torch.set_rng_state(state["torch_rng"].cpu())
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def run_epoch(self, on_progress: Callable[[Progress], None]) -> float:
        """Train for one epoch; its mean loss.

        Raises:
            UsageError: the loss is no longer finite.
        """
        self.network.train()
        total, step = 0.0, self.epoch * self.steps_an_epoch
        with _without_denormals(), Prefetch(self._batches(), _AHEAD) as batches:
            for x, target in batches:
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.settings, step, self.steps)
                loss = self._learn(x, target)
                if not math.isfinite(loss):
                    raise UsageError(
                        f"the loss is {loss} in epoch {self.epoch + 1}; take a lower lr than {self.settings.lr:g}"
                    )
                step, total = step + 1, total + loss
                on_progress(Progress(step, self.steps, self.epoch + 1, loss))
        self.epoch += 1
        return total / self.steps_an_epoch

    def _learn(self, x: Tensor, target: Tensor) -> float:
        if self.settings.relight and x.shape[1] == len(self.clips.mean):
            x = relit(x)
        x = x.to(self.device, memory_format=torch.channels_last_3d)
        with arithmetic(self.device):
            logits = self._logits(x)
            loss = nn.functional.cross_entropy(
                logits, target.to(self.device), label_smoothing=self.settings.label_smoothing
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def _logits(self, x: Tensor) -> Tensor:
        try:
            logits: Tensor = self.network(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"batch norm has one value a channel to learn from in steps of {len(x)} clips; expected two or more "
                "clips that can be read, and a batch of as many"
            ) from error
        return logits

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The clips of one epoch, in an order and crops of its own."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order, size = rng.permutation(len(self.pool)), min(self.settings.batch, len(self.pool))
        for at in range(0, len(order) - size + 1, size):
            pairs = [
                drawn(self.pool.clip(i), self.pool.targets[i], self.clips, self.turns, rng)
                for i in order[at : at + size]
            ]
            yield to_input([p[0] for p in pairs], self.clips), torch.from_numpy(np.stack([p[1] for p in pairs]))


def learning_rate(settings: PretrainSettings, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to zero (Loshchilov and Hutter, ICLR 2017)."""
    warmup_steps = round(settings.warmup * steps)
    if step < warmup_steps:
        return settings.lr * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))


def arithmetic(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs, and on processors that multiply it in hardware."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or has_amx())


def scores(
    network: Network,
    pool: Pool,
    clips: ClipDefaults,
    *,
    times: int,
    crops: int,
    device: torch.device,
    on_clip: Callable[[int, int], None] = lambda _done, _total: None,
) -> NDArray[np.float32]:
    """(N, K) probabilities of each clip of ``pool``, the mean over its `views`."""
    network.to(device).eval()
    found = np.zeros_like(pool.targets)
    shown: list[tuple[int, Pixels, float]] = []
    for number in range(len(pool)):
        of_clip = list(views(pool.clip(number), clips, times=times, crops=crops))
        shown += [(number, view, 1 / len(of_clip)) for view in of_clip]
        if len(shown) >= _TESTED or number == len(pool) - 1:
            x = to_input([view for _, view, _ in shown], clips).to(device, memory_format=torch.channels_last_3d)
            with torch.inference_mode(), arithmetic(device):
                rows = network(x).float().softmax(1).cpu().numpy()
            for (owner, _, share), row in zip(shown, rows, strict=True):
                found[owner] += share * row
            shown = []
            on_clip(number + 1, len(pool))
    return found
