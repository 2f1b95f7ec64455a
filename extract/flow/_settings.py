"""What changes an optical flow, and its 8 bits. Needs no library but numpy, for recipes are read without one.

H W pixels.
"""

from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["dis", "tvl1", "raft_large", "raft_small"]
METHODS: tuple[Method, ...] = get_args(Method)
RAFT_FILES = {
    "raft_large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "raft_small": "raft_small_C_T_V2-01064c6d.pth",
}
"""Of torchvision's defaults, ``Raft_Large_Weights`` and ``Raft_Small_Weights``; sha256 begins with the last digits."""


class FlowSettings(BaseModel):
    """How flow is computed and kept.

    ``method``: "dis", Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as OpenCV's preset
    "medium"; "tvl1", Zach et al., DAGM 2007, as OpenCV computes it, with the zoom factor 0.5 of Sánchez Pérez et al.,
    "TV-L1 Optical Flow Estimation", IPOL 2013; "raft_large" and "raft_small", Teed and Deng, ECCV 2020, as torchvision
    computes it, in fp32.
    ``bound_px``: longer movements to a side count as this one. ``weights``: RAFT's file, whose name ends in the
    beginning of its sha256; filled in.
    ``quantisation``: as `quantised` does it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    bound_px: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    quantisation: Literal["uint8-nearest"] = "uint8-nearest"
    weights: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_weights(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic is given
        if isinstance(values, dict) and values.get("weights") is None:
            return {**values, "weights": RAFT_FILES.get(str(values.get("method")))}
        return values


def quantised(flow: NDArray[np.float32], bound_px: float) -> NDArray[np.uint8]:
    """Flow (H, W, 2) in pixels -> (H, W, 2) uint8: -``bound_px`` is 0, ``bound_px`` 255, rest 128; the nearest of 256.

    Carreira and Zisserman, CVPR 2017, truncate TV-L1 flow at 20 pixels (kinetics-i3d's README). The rounding is that
    of the flow images which two-stream networks are trained on: ``convertFlowToImage`` in yjxiong/dense_flow,
    src/common.cpp, of Wang et al., "Temporal Segment Networks", ECCV 2016; halves go to the even number.
    """
    clipped = np.clip(flow.astype(np.float64), -bound_px, bound_px)
    return np.rint(255 * (clipped + bound_px) / (2 * bound_px)).astype(np.uint8)
