"""Curves of a training in TensorBoard, for who has it."""

from collections.abc import Callable
from pathlib import Path

from extract.errors import MachineError
from pipelines.fitting import Progress

Follow = Callable[[int, Progress], None]


def with_tensorboard(folder: Path, follow: Follow) -> Follow:
    """``follow``, which also writes the loss and the last official figure of each seed to a folder of ``folder``.

    Raises:
        MachineError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MachineError(
            f"--tensorboard needs TensorBoard ({error}); install it with: pip install 'untrimmed[tensorboard]'"
        ) from error

    def on_progress(number: int, now: Progress) -> None:
        with SummaryWriter(folder / f"seed-{number}", purge_step=now.epoch) as writer:
            writer.add_scalar("loss", now.loss, now.epoch)
            if now.value is not None:
                writer.add_scalar(now.metric, now.value, now.epoch)
        follow(number, now)

    return on_progress
