"""Synthetic motion worlds: videos with known answers, in which only motion tells what happens."""

from pipelines.synthetic.verbs import VERBS
from pipelines.synthetic.worlds import KINDS, synthesize

__all__ = ["KINDS", "VERBS", "synthesize"]
