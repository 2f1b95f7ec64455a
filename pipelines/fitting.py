"""The training loop.

N training videos.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from extract.errors import UsageError
from extract.prefetch import Prefetch
from pipelines.config import TrainSettings
from pipelines.dataset import Examples
from pipelines.tasks import Task
from pipelines.tasks.task import Batch

VALIDATIONS = 5
"""How often, at most, a training is measured on the validation subset on its way (more often with ``patience``)."""
AHEAD = 4  # batches that are read while the head learns
LARGE = 500_000  # parameters from which on more than one thread gains time


@dataclass(frozen=True, slots=True)
class Progress:
    """After each epoch: epochs done and in all, the mean training loss of the last one, and the official figure of the
    validation videos when it was last measured (None before, and without such videos).
    """

    epoch: int
    epochs: int
    loss: float
    metric: str
    value: float | None


@dataclass(eq=False)
class Loop:
    """A training between two epochs: everything that the next one depends on.

    Attributes:
        epoch: epochs done.
        figures: one mapping an epoch.
        best: the best official figure, and its weights; only with ``patience``.
        stale: epochs since then.
        waiting_s: seconds that the head waited for features, of ``busy_s`` in all.
    """

    task: Task
    head: nn.Module
    examples: Examples
    held_out: Examples | None
    settings: TrainSettings
    device: torch.device
    rng: np.random.Generator
    epoch: int = 0
    figures: list[Mapping[str, object]] = field(default_factory=list)
    best: tuple[float, dict[str, Any]] | None = None
    stale: int = 0
    waiting_s: float = 0.0

    def __post_init__(self) -> None:
        settings, head = self.settings, self.head.to(self.device)
        matrices = [parameter for parameter in head.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
        iterations = self.epochs * self.task.n_batches(self.examples, settings)
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, schedule(iterations, settings.warmup))
        average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(head, multi_avg_fn=average, use_buffers=True) if settings.ema else None

    @property
    def epochs(self) -> int:
        """How many there will be, unless ``patience`` ends them."""
        least = math.ceil(self.settings.iterations / self.task.n_batches(self.examples, self.settings))
        return max(self.settings.epochs, least)

    @property
    def ended(self) -> bool:
        """Whether no epoch is left."""
        patience = self.settings.patience
        return self.epoch >= self.epochs or (patience > 0 and self.stale >= patience)

    @property
    def shown(self) -> nn.Module:
        """The head that answers: the running mean of the weights, or the head itself."""
        return self.head if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """For `restore`: plain values and tensors."""
        return {
            "epoch": self.epoch,
            "figures": [dict(each) for each in self.figures],
            "best": self.best,
            "stale": self.stale,
            "waiting_s": self.waiting_s,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "head": self.head.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of a loop of the same arguments."""
        self.epoch, self.figures, self.best = state["epoch"], list(state["figures"]), state["best"]
        self.stale, self.waiting_s = state["stale"], state["waiting_s"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"].cpu())
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
        self.head.load_state_dict(state["head"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])


def fit(
    loop: Loop,
    *,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_epoch: Callable[[Loop], None] = lambda _loop: None,
) -> nn.Module:
    """Train until the loop has ended; the trained head comes back in evaluation mode.

    AdamW (Loshchilov & Hutter 2019; no decay of biases, norms and scales), linear warm-up and cosine decay per
    iteration, clipped gradients.

    Raises:
        UsageError: the loss is no longer finite.
    """
    value = None
    while not loop.ended:
        loss = _epoch(loop)
        loop.epoch += 1
        measured = _measured(loop)
        if measured is not None:
            value = measured["metrics"][loop.task.metric]
            _remember_best(loop, value)
        figures = None if measured is None else measured["metrics"]
        loop.figures.append({"epoch": loop.epoch, "loss": loss, "validation": figures})
        on_progress(Progress(loop.epoch, loop.epochs, loss, loop.task.metric, value))
        on_epoch(loop)
    if loop.best is not None:
        loop.shown.load_state_dict(loop.best[1])
    return loop.shown.eval()


def _epoch(loop: Loop) -> float:
    """One pass over the training videos; their mean loss comes back."""
    loop.head.train()
    total, count = 0.0, 0
    with Prefetch(loop.task.batches(loop.examples, loop.settings, loop.rng), AHEAD) as batches:
        for size, batch in batches:
            total, count = total + size * learn(loop, batch), count + size
    loop.waiting_s += batches.waiting_s
    return total / count


def learn(loop: Loop, batch: Batch) -> float:
    """One step of the optimizer; the loss before it comes back.

    Raises:
        UsageError: the loss is not finite.
    """
    with torch.autocast(loop.device.type, torch.bfloat16, enabled=loop.settings.bf16):
        loss = loop.task.loss(loop.head, batch.to(loop.device), loop.settings)
    loop.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(loop.head.parameters(), loop.settings.clip_norm)
    loop.optimizer.step()
    loop.rates.step()
    if loop.average is not None:
        loop.average.update_parameters(loop.head)
    return _finite(loss.item(), loop)


def _finite(loss: float, loop: Loop) -> float:
    if not math.isfinite(loss):
        raise UsageError(
            f"training diverged: the loss is {loss} in epoch {loop.epoch + 1} with lr={loop.settings.lr:g}; "
            "set a smaller one, such as --set lr=0.001"
        )
    return loss


def _measured(loop: Loop) -> dict[str, Any] | None:
    """The official figures of the validation videos, where it is time for them."""
    every = 1 if loop.settings.patience else math.ceil(loop.epochs / VALIDATIONS)
    if loop.epoch % every and loop.epoch != loop.epochs:
        return None
    return figures(loop.task, loop.shown, loop.held_out, len(loop.examples.classes))


def figures(task: Task, head: nn.Module, held_out: Examples | None, n_trained: int) -> dict[str, Any] | None:
    """`Task.report` of a head; None without videos."""
    if held_out is None:
        return None
    head.eval()
    return task.report(held_out, [task.answer(head, item) for item in held_out.items], n_trained=n_trained)


def _remember_best(loop: Loop, value: float | None) -> None:
    loop.stale += 1
    if loop.settings.patience and value is not None and (loop.best is None or value > loop.best[0]):
        weights = {name: tensor.detach().cpu().clone() for name, tensor in loop.shown.state_dict().items()}
        loop.best, loop.stale = (value, weights), 0


@contextlib.contextmanager
def fitting_threads(head: nn.Module) -> Iterator[None]:
    """Small heads get one thread: more wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    if sum(parameter.numel() for parameter in head.parameters()) < LARGE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def schedule(iterations: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at an iteration: linear up to 1, then half a cosine to 0."""
    rising = max(1, round(warmup * iterations))

    def factor(iteration: int) -> float:
        if iteration < rising:
            return (iteration + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (iteration - rising) / max(1, iterations - rising)))

    return factor
