"""The engine: runs a backbone over uint8 clips in torch or in OpenVINO."""

from extract.engine._choose import check_engine, settle_engine
from extract.engine._engine import Engine, unit_clips
from extract.engine._model import ClipInput, channels_last
from extract.engine._openvino import available as openvino_available
from extract.engine._openvino import precisions as openvino_precisions
from extract.engine._settle import Device, Precision, has_amx, settle_device, settle_precision

__all__ = [
    "ClipInput",
    "Device",
    "Engine",
    "Precision",
    "channels_last",
    "check_engine",
    "has_amx",
    "openvino_available",
    "openvino_precisions",
    "settle_device",
    "settle_engine",
    "settle_precision",
    "unit_clips",
]
