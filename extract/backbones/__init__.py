"""Frozen networks from clips to features, by name, with the clip recipe that each was trained for."""

from extract.backbones.attention import NonLocal, insert_nonlocal
from extract.backbones.backbone import Backbone
from extract.backbones.catalogue import BACKBONES, EMBEDDED, backbone_spec
from extract.backbones.images import inflate
from extract.backbones.loading import load_backbone
from extract.backbones.network import Network
from extract.backbones.spec import BackboneSpec, ClipDefaults

__all__ = [
    "BACKBONES",
    "EMBEDDED",
    "Backbone",
    "BackboneSpec",
    "ClipDefaults",
    "Network",
    "NonLocal",
    "backbone_spec",
    "inflate",
    "insert_nonlocal",
    "load_backbone",
]
