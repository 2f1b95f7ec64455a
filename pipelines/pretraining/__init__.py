"""Training clip models on trimmed clips, so that `extract` can use them."""

from pipelines.pretraining.run import WEIGHTS_FILE, WORLDS, pretrain
from pipelines.pretraining.settings import PretrainSettings, pretrain_settings

__all__ = ["WEIGHTS_FILE", "WORLDS", "PretrainSettings", "pretrain", "pretrain_settings"]
