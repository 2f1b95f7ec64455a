"""Looking inside networks: their first filters, clips that maximise a class, and what a class hangs on in a video."""

from pipelines.visualizing.made import show_filters, show_maximised, show_saliency
from pipelines.visualizing.maximizing import Ascent
from pipelines.visualizing.networks import Looked, look_into
from pipelines.visualizing.saliency import Method

__all__ = ["Ascent", "Looked", "Method", "look_into", "show_filters", "show_maximised", "show_saliency"]
