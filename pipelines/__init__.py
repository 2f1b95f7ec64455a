"""What users run: data, extraction, training, evaluation, and the command line.

Names are imported when they are first used, so that a command that needs no torch starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.checkpoint import load_run
    from pipelines.config import TrainSettings
    from pipelines.evaluation import evaluate
    from pipelines.extraction import Options, extract
    from pipelines.people import detect_people
    from pipelines.predicting import predict
    from pipelines.synthetic import synthesize
    from pipelines.training import train

__all__ = [
    "Options",
    "TrainSettings",
    "detect_people",
    "evaluate",
    "extract",
    "load_run",
    "predict",
    "synthesize",
    "train",
]

_HOMES = {
    "Options": "pipelines.extraction",
    "TrainSettings": "pipelines.config",
    "detect_people": "pipelines.people",
    "evaluate": "pipelines.evaluation",
    "extract": "pipelines.extraction",
    "load_run": "pipelines.checkpoint",
    "predict": "pipelines.predicting",
    "synthesize": "pipelines.synthetic",
    "train": "pipelines.training",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, whether used before or not."""
    return __all__
