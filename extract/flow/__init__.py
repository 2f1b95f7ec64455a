"""Optical flow: how far each pixel of one picture moves to the next; as an input of networks, and as a picture."""

from extract.flow._flow import Flow, fetch_weights, flow_for, flow_frames, flow_library
from extract.flow._picture import flow_picture
from extract.flow._settings import METHODS, FlowSettings, Method, quantised

__all__ = [
    "METHODS",
    "Flow",
    "FlowSettings",
    "Method",
    "fetch_weights",
    "flow_for",
    "flow_frames",
    "flow_library",
    "flow_picture",
    "quantised",
]
