"""Figures of merit on numpy arrays."""

from seqmodels.metrics.accuracy import any_label_accuracy, top_1_accuracy
from seqmodels.metrics.average_precision import average_precision, per_class_ap

__all__ = ["any_label_accuracy", "average_precision", "per_class_ap", "top_1_accuracy"]
