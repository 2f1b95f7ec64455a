"""Running clips through a backbone, so that a clip's features depend on nothing but the clip.

On a CPU each clip passes through the network alone, in one thread; several threads compute several clips. So
its features are equal to the last bit whichever clips stand beside it, and for any number of threads and workers.
(Operators that share one clip among threads, or take several clips, add up in an order that depends on how many.)
A GPU computes batches of one fixed shape, the last filled up with zeros.
B clips, T frames, C channels, H W pixels, D features; with maps asked for (`ClipInput`), features are (D, H', W') each.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones import Backbone
from extract.engine import _openvino
from extract.engine._model import ClipInput, ClipModel, channels_last, folded, without_leaps
from extract.engine._settle import Precision
from extract.errors import DeviceLostError, MachineError

Key = TypeVar("Key")
Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_PIXELS = 128 * 16 * 112 * 112  # of a batch
_CUDA_CLIPS = 64


def unit_clips(given: ClipInput, device: str) -> int:
    """How many clips pass through the network together: by the clips and the kind of device alone."""
    if device == "cpu":
        return 1
    return max(1, min(_CUDA_CLIPS, _CUDA_PIXELS // (given.frames * given.side_px**2)))


class Engine:
    """A backbone ready to compute.

    Args:
        backbone: the network. It is not changed; torch computes with a copy.
        given: its clips.
        engine: "torch", "compile" or "openvino", settled.
        device: "cpu" or "cuda", settled.
        precision: settled.
        threads: of the CPU. Features do not depend on it.

    Attributes:
        batch: clips that `run` takes at a time.
    """

    def __init__(
        self,
        backbone: Backbone,
        given: ClipInput,
        *,
        engine: str = "torch",
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int = 1,
    ) -> None:
        self._unit, self._apart = unit_clips(given, device), device != "cpu"
        self._side_px = given.side_px
        self._callers = threads if device == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._callers, initializer=_alone)
        self.batch = self._unit * self._callers
        if engine == "openvino":
            self._compute: Compute = _openvino.compiled(backbone, given, precision, threads)
        else:
            self._compute = _in_torch(backbone, given, engine, device, precision)
        if engine == "compile":  # by the first clips; not in several threads at once
            self.features(given.blank(1))

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, T, H, W, C) uint8, RGB or optical flow, B at least 1 -> (B, D) float32, or maps (B, D, H', W').

        Where the memory is too small, fewer clips at a time are tried, down to one; and so from then on.

        Raises:
            MachineError: it is too small for one.
            DeviceLostError: the GPU answers no more.
        """
        while True:
            try:
                return self._in_units(clips)
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise _of_device(error) from error
                if self.batch == 1:
                    clip = "x".join(map(str, clips.shape[1:4]))
                    raise MachineError(
                        f"out of memory with a single clip of {clip} ({error}); "
                        "take fewer --workers, a smaller --crop or another backbone"
                    ) from error
            self._halve()

    def _in_units(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = self._unit_of(clips.shape)
        units = [self._filled(clips[at : at + size], size) for at in range(0, len(clips), size)]
        return np.concatenate(list(self._pool.map(self._compute, units)))[: len(clips)]

    def _unit_of(self, shape: tuple[int, ...]) -> int:
        """Clips of (…, H, W, C) that pass through together: fewer where whole frames are longer than high."""
        return max(1, self._unit * self._side_px**2 // (shape[-3] * shape[-2]))

    def _halve(self) -> None:
        """Fewer callers at once first, for their number changes no feature."""
        if self._callers > 1:
            self._callers //= 2
            self._pool.shutdown()
            self._pool = ThreadPoolExecutor(self._callers, initializer=_alone)
        else:
            self._unit //= 2
            torch.cuda.empty_cache()
        self.batch = self._unit * self._callers

    def run(self, clips: Iterable[tuple[Key, NDArray[np.uint8]]]) -> Iterator[list[tuple[Key, NDArray[np.float32]]]]:
        """Features (D,) of each clip (T, H, W, C), batch by batch, under the clip's own key, in order.

        A batch holds clips of one size.
        """
        for batch in self._batches(clips):
            rows = self.features(np.stack([clip for _, clip in batch]))
            yield [(key, row) for (key, _), row in zip(batch, rows, strict=True)]

    def _batches(self, clips: Iterable[tuple[Key, NDArray[np.uint8]]]) -> Iterator[list[tuple[Key, NDArray[np.uint8]]]]:
        """On a GPU no batch holds clips of two keys (videos), so that batches are cut by the video alone."""
        for _, stream in groupby(clips, key=lambda pair: (self._apart and id(pair[0]), pair[1].shape)):
            while batch := list(islice(stream, self.batch)):
                yield batch

    def _filled(self, clips: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        if len(clips) == size:
            return clips.copy()  # whatever its strides
        full = np.zeros((size, *clips.shape[1:]), np.uint8)
        full[: len(clips)] = clips
        return full


def _is_memory(error: Exception) -> bool:
    """Whether there was too little memory; torch's allocator of the CPU says so in words alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _of_device(error: Exception) -> Exception:
    """DeviceLostError for a fault after which this process can use its GPU no more; else ``error`` itself."""
    if not isinstance(error, torch.AcceleratorError):
        return error
    return DeviceLostError(f"the GPU failed ({error}); restart the worker, and check the device")


def _alone() -> None:
    """A thread of the pool computes by itself. torch takes this for the default of threads started later, too."""
    torch.set_num_threads(1)


def _exact_gpu() -> AbstractContextManager[None]:
    """fp32 means fp32, not TF32; and the same algorithm each time, not the fastest of the moment."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]


def _in_torch(backbone: Backbone, given: ClipInput, engine: str, device: str, precision: Precision) -> Compute:
    """Channels last, BatchNorm folded, arithmetic in ``precision``."""
    whole = ClipModel(backbone, given).eval()
    model = folded(whole) if given.layer is None else copy.deepcopy(whole)  # a layer may lie where norms are folded
    if device == "cpu" and precision == "bf16":
        model = without_leaps(model)
    model.to(device)
    channels_last(model)
    run = torch.compile(model, dynamic=False) if engine == "compile" else model

    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(clips).to(device)
        with (
            torch.inference_mode(),
            torch.autocast(device, _DTYPES[precision], enabled=precision != "fp32"),
            _exact_gpu() if device == "cuda" else nullcontext(),
        ):
            rows: torch.Tensor = run(pixels)
        return rows.float().cpu().numpy()

    return compute
