"""Finding people in pictures: torchvision's Faster R-CNN with a ResNet-50 and feature pyramid, trained on COCO.

Ren et al., NeurIPS 2015; Lin et al., CVPR 2017. N people, H W pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.download import Progress, fetch, say_nothing
from extract.errors import InputError, UsageError
from extract.weights.files import read_tensors

URL = "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
_SHA256_PREFIX = "258fb6c6"
SIDE_PX, LONGEST_PX = 800, 1333  # to which it resizes pictures: the shorter side, but for long ones
_CLASSES, _PERSON = 91, 1  # COCO's, with the background
_SHOWN = 3


class PeopleDetector:
    """Finds people in one picture at a time, so that what it finds does not depend on other pictures.

    Args:
        weights: "pretrained", the official checkpoint, downloaded once; a checkpoint file, or its http(s) URL; or
            "random:SEED", which finds nobody in particular.
        min_score: people of whom the network is less sure are left out.
        device: "cpu" or "cuda", settled.
        on_progress: hears of a download, in bytes.

    Raises:
        UsageError: a score outside 0..1, or a seed that is none.
        InputError: a checkpoint that is missing, broken, or of another network.
        MachineError: a checkpoint that cannot be downloaded.
    """

    def __init__(
        self,
        weights: str | Path = "pretrained",
        *,
        min_score: float = 0.8,
        device: str = "cpu",
        on_progress: Progress = say_nothing,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise UsageError(f"--min-score {min_score}; expected a number from 0 to 1")
        self._device = device
        self._network = _loaded(str(weights), min_score, on_progress).eval().requires_grad_(False).to(device)

    def __call__(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(H, W, 3) uint8 RGB -> boxes (N, 4) = x1, y1, x2, y2 in 0..1 of the picture, and scores (N,), falling."""
        height, width = picture.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device).permute(2, 0, 1) / 255
        with torch.inference_mode():
            found: Mapping[str, Tensor] = self._network([pixels])[0]
        people = found["labels"] == _PERSON
        boxes = found["boxes"][people].cpu().numpy() / np.array([width, height, width, height], np.float32)
        return np.clip(boxes, 0, 1).astype(np.float32), found["scores"][people].cpu().numpy()


def _loaded(weights: str, min_score: float, on_progress: Progress) -> nn.Module:
    if weights.startswith("random:"):
        seed = weights.removeprefix("random:")
        if not seed.isdecimal() or int(seed) >= 2**63:
            raise UsageError(f"--weights {weights}: the seed is not a whole number below 2**63; write random:0")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            return _network(min_score)
    if weights == "pretrained":
        path = fetch(URL, sha256_prefix=_SHA256_PREFIX, on_progress=on_progress)
    else:
        path = fetch(weights, on_progress=on_progress) if "://" in weights else Path(weights)
    tensors = read_tensors(path)
    network = _network(min_score)
    try:
        network.load_state_dict(tensors)  # its layers know the names in older files, too
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1 : 1 + _SHOWN]]
        raise InputError(
            f"{path} holds weights of another network than torchvision's fasterrcnn_resnet50_fpn: "
            f"{' '.join(lines):.300}"
        ) from error
    return network


def _network(min_score: float) -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    network: nn.Module = FasterRCNN(
        resnet_fpn_backbone(backbone_name="resnet50", weights=None),
        num_classes=_CLASSES,
        min_size=SIDE_PX,
        max_size=LONGEST_PX,
        box_score_thresh=min_score,
    )
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # as these weights were trained (torchvision's own loader does so, too)
    return network
