"""Flow between two pictures. The only module that knows OpenCV.

T frames, H W pixels.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from importlib.metadata import version
from itertools import pairwise
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from extract.download import Progress, fetch, say_nothing
from extract.errors import InputError, MachineError, UsageError
from extract.flow._settings import RAFT_FILES, FlowSettings, quantised

Pixels: TypeAlias = NDArray[np.uint8]
Field: TypeAlias = NDArray[np.float32]

_RAFT_URL = "https://download.pytorch.org/models/"
_OPENCV_LEAST_PX = 16  # a side; for smaller ones DIS of OpenCV 5.0 reads outside its memory, and TV-L1 halves too often
_RAFT_LEAST_PX, _RAFT_STEP_PX = 128, 8  # torchvision.models.optical_flow.raft: maps of an eighth, halved three times
_ZOOM = 0.5


class Flow:
    """Computes flow by ``settings``; the same pictures give the same flow, to the last bit, on the same device.

    Args:
        settings: of the method.
        device: "cpu" or "cuda"; RAFT alone uses a GPU, and fetches its weights at first.

    Raises:
        MachineError: OpenCV is not installed, or RAFT's weights cannot be downloaded.
        InputError: RAFT's weights are not those that are published.
        UsageError: ``settings`` are of other weights than this version takes.
    """

    def __init__(self, settings: FlowSettings, device: str = "cpu") -> None:
        self.settings = settings
        self._least_px, self._step_px = _OPENCV_LEAST_PX, 1
        if settings.method in RAFT_FILES:
            self._least_px, self._step_px = _RAFT_LEAST_PX, _RAFT_STEP_PX
            self._compute: Callable[[Pixels, Pixels], Field] = _raft(settings, device)
        else:
            self._compute = partial(_with_opencv, _opencv(), settings.method)

    def __call__(self, before: Pixels, after: Pixels) -> Field:
        """(H, W, 3) uint8 RGB, twice -> (H, W, 2) float32: pixels to the right and down from ``before`` to ``after``.

        Raises:
            UsageError: pictures of another form, or of two sizes.
        """
        for frame in (before, after):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != before.shape:
                raise UsageError(
                    f"flow of {before.dtype} {before.shape} and {after.dtype} {after.shape}; expected two pictures of"
                    " one size, (H, W, 3) uint8"
                )
        sides = [_margins(length, self._least_px, self._step_px) for length in before.shape[:2]]
        if not any(map(any, sides)):
            return self._compute(before, after)
        wide = [np.pad(frame, (*sides, (0, 0)), mode="edge") for frame in (before, after)]
        (top, _), (left, _) = sides
        return self._compute(*wide)[top : top + before.shape[0], left : left + before.shape[1]]


@lru_cache(maxsize=2)
def flow_for(settings: FlowSettings, device: str = "cpu") -> Flow:
    """`Flow`, made once in a process."""
    return Flow(settings, device)


def flow_frames(frames: Pixels, flow: Flow) -> Pixels:
    """Frames (T, H, W, 3) uint8 RGB -> quantised flow (T, H, W, 2) uint8.

    Flow k is that from frame k to k + 1; the last repeats the one before it, and that of a single frame is rest.
    """
    if frames.ndim != 4 or not len(frames):
        raise UsageError(f"flow of frames {frames.shape}; expected (T, H, W, 3) with at least one frame")
    if len(frames) == 1:
        rest = np.zeros((*frames.shape[1:3], 2), np.float32)
        return quantised(rest, flow.settings.bound_px)[None]
    found = [quantised(flow(*pair), flow.settings.bound_px) for pair in pairwise(frames)]
    return np.stack([*found, found[-1]])


def fetch_weights(settings: FlowSettings, *, on_progress: Progress = say_nothing) -> None:
    """Download what the method needs, where it is not there yet; ``on_progress`` as of `extract.download.fetch`."""
    if settings.method in RAFT_FILES:
        _raft_file(settings, on_progress)


def flow_library(settings: FlowSettings) -> str:
    """What computes it, with its version: of another one, flow may differ in its last digits."""
    if settings.method in RAFT_FILES:
        return f"torchvision {version('torchvision')}"
    return f"opencv {_opencv().__version__}"


def _margins(length: int, least: int, step: int) -> tuple[int, int]:
    """How many pixels are added before and behind ``length``, for the next size that the method takes."""
    missing = -(-max(length, least) // step) * step - length
    return missing // 2, missing - missing // 2


@cache
def _opencv() -> ModuleType:
    try:
        import cv2
        import cv2.optflow
    except ImportError as error:
        raise MachineError(
            f"flow by dis and tvl1 needs OpenCV with its contributed modules ({error}); "
            "pip install opencv-contrib-python-headless, in place of any other opencv-python"
        ) from error
    cv2.setNumThreads(1)  # workers share the cores; nothing else here computes with OpenCV
    return cv2


def _with_opencv(cv2: ModuleType, method: str, before: Pixels, after: Pixels) -> Field:
    """A new object for each pair: they have state, and no two threads may use one."""
    if method == "dis":
        algorithm = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    else:
        algorithm = cv2.optflow.DualTVL1OpticalFlow_create(scaleStep=_ZOOM)
    found: Field = algorithm.calc(*(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)), None)
    return found


def _raft_file(settings: FlowSettings, on_progress: Progress = say_nothing) -> str:
    name = RAFT_FILES[settings.method]
    if settings.weights != name:
        raise UsageError(
            f"flow by {settings.method} with the weights {settings.weights}; this version of untrimmed takes {name}"
        )
    prefix = name.rpartition("-")[2].removesuffix(".pth")
    return str(fetch(_RAFT_URL + name, sha256_prefix=prefix, on_progress=on_progress))


def _raft(settings: FlowSettings, device: str) -> Callable[[Pixels, Pixels], Field]:
    """Torchvision's network, in a thread of its own: on a CPU, sums depend on how many threads share them."""
    import torch
    from torchvision.models import optical_flow

    network = getattr(optical_flow, settings.method)(weights=None)
    try:
        network.load_state_dict(torch.load(_raft_file(settings), map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise InputError(f"the weights of {settings.method} are of another network: {error}") from error
    network.eval().to(device)
    alone = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))

    def compute(before: Pixels, after: Pixels) -> Field:
        pair = torch.from_numpy(np.stack([before, after])).to(device)
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),  # type: ignore[no-untyped-call,unused-ignore]
        ):
            scaled = pair.permute(0, 3, 1, 2).float() / 127.5 - 1  # as its weights' transforms
            found: Field = network(scaled[:1], scaled[1:])[-1][0].permute(1, 2, 0).float().cpu().numpy()
        return found

    return lambda before, after: alone.submit(compute, before, after).result()
