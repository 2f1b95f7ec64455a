"""What users run: data, extraction, training, evaluation, and the command line."""

from pipelines.evaluate import evaluate
from pipelines.extraction import Options, extract
from pipelines.synthetic import synthesize
from pipelines.train import train

__all__ = ["Options", "evaluate", "extract", "synthesize", "train"]
