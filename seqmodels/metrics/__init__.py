"""Figures of merit on numpy arrays."""

from seqmodels.metrics.accuracy import any_label_accuracy, top_1_accuracy
from seqmodels.metrics.average_precision import average_precision, per_class_ap
from seqmodels.metrics.localization import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    LocalizationResult,
    localization_map,
)

__all__ = [
    "ACTIVITYNET_THRESHOLDS",
    "THUMOS_THRESHOLDS",
    "LocalizationResult",
    "any_label_accuracy",
    "average_precision",
    "localization_map",
    "per_class_ap",
    "top_1_accuracy",
]
