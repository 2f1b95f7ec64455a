"""From the tensor names of official checkpoints to those of the networks here.

Each format is known by names that it alone has. Sources of the names, by repository and file: pytorchvideo
``models/``; PySlowFast ``models/`` and, for Caffe2, ``utils/c2_model_loading.py``; hassony2/kinetics_i3d_pytorch
``src/i3dpt.py``; piergiaj/pytorch-i3d ``pytorch_i3d.py``; DeepMind's kinetics-i3d ``i3d.py``; DavideA/c3d-pytorch
``C3D_model.py``; jfzhang95/pytorch-video-recognition ``network/C3D_model.py``; mmaction2 ``models/backbones/c3d.py``;
C3D-v1.0's prototxt; torchvision ``models/video``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Rule = tuple[str, str]


@dataclass(frozen=True)
class Format:
    """A family of checkpoints: its name, a pattern that some of its names match, and how to translate all."""

    name: str
    marker: str
    translate: Callable[[Mapping[str, Tensor]], State]

    def matches(self, names: Iterable[str]) -> bool:
        """Whether a file with these tensor names is of this family."""
        return any(re.search(self.marker, name) for name in names)


def format_of(names: Iterable[str]) -> Format | None:
    """The format of a file with these tensor names; None where it is none of those known."""
    listed = list(names)
    return next((known for known in FORMATS if known.matches(listed)), None)


def _renamed(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> State:
    """Each name after all ``rules`` (pattern, replacement), in order."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed


def _by(*rules: Rule) -> Callable[[Mapping[str, Tensor]], State]:
    return lambda state: _renamed(state, rules)


# --- pytorchvideo -------------------------------------------------------------------------------------------------

_PTV_BLOCK: tuple[Rule, ...] = (
    (r"\.branch1_conv\.", ".shortcut.conv."),
    (r"\.branch1_norm\.", ".shortcut.norm."),
    (r"\.branch2\.conv_b\.conv_t\.", ".b.time.conv."),
    (r"\.branch2\.conv_b\.norm\.", ".b.time.norm."),
    (r"\.branch2\.conv_b\.conv_xy\.", ".b.space.conv."),
    (r"\.branch2\.norm_b\.1\.block\.0\.", ".b.then.0.squeeze."),
    (r"\.branch2\.norm_b\.1\.block\.2\.", ".b.then.0.excite."),
    (r"\.branch2\.norm_b\.0\.", ".b.norm."),
    (r"\.branch2\.conv_([abc])\.", r".\1.conv."),
    (r"\.branch2\.norm_([abc])\.", r".\1.norm."),
)
_PTV_ENDS: tuple[Rule, ...] = (
    (r"^detection_head\.proj\.|^blocks\.\d+\.proj\.", "classifier."),
    (r"^blocks\.\d+\.pool\.pre_(conv|norm)\.", r"body.conv5.\1."),
    (r"^blocks\.\d+\.pool\.post_conv\.", "hidden.conv."),
    (r"^blocks\.0\.conv\.conv_t\.", "body.stem.space."),
    (r"^blocks\.0\.conv\.conv_xy\.", "body.stem.time."),
    (r"^blocks\.0\.norm\.", "body.stem.norm."),
    (r"^blocks\.0\.conv\.", "body.stem.conv."),
    (r"^blocks\.0\.multipathway_blocks\.0\.", "slow.stem."),
    (r"^blocks\.0\.multipathway_blocks\.1\.", "fast.stem."),
)


def _pytorchvideo(state: Mapping[str, Tensor]) -> State:
    plain = _renamed(state, [(r"^model\.", "")])
    numbers = sorted({int(found[1]) for name in plain if (found := re.match(r"blocks\.(\d+)\..*res_blocks\.", name))})
    rules: list[Rule] = list(_PTV_ENDS)
    for stage, number in enumerate(numbers, 2):  # a pool without parameters may have a number in between
        rules += [
            (rf"^blocks\.{number}\.res_blocks\.", f"body.res{stage}."),
            (rf"^blocks\.{number}\.multipathway_blocks\.0\.res_blocks\.", f"slow.res{stage}."),
            (rf"^blocks\.{number}\.multipathway_blocks\.1\.res_blocks\.", f"fast.res{stage}."),
            (rf"^blocks\.{number}\.multipathway_fusion\.", f"lateral.res{stage}."),
        ]
    rules += [
        (r"^blocks\.0\.multipathway_fusion\.", "lateral.stem."),
        (r"^(lateral\.\w+)\.conv_fast_to_slow\.", r"\1.conv."),
        *_PTV_BLOCK,
    ]
    if any(".conv_b.conv_t." in name for name in plain):
        rules.append((r"\.b\.norm\.", ".b.space.norm."))
    return _renamed(plain, rules)


# --- PySlowFast, and its Caffe2 files -----------------------------------------------------------------------------

_PSF: tuple[Rule, ...] = (
    (r"^head\.projection\.", "classifier."),
    (r"^head\.conv_5\.", "body.conv5.conv."),
    (r"^head\.conv_5_bn\.", "body.conv5.norm."),
    (r"^head\.lin_5\.", "hidden.conv."),
    (r"^s1_fuse\.", "lateral.stem."),
    (r"^s(\d)_fuse\.", r"lateral.res\1."),
    (r"\.conv_f2s\.", ".conv."),
    (r"^s1\.(\w+?)_stem\.", r"\1.stem."),
    (r"^s(\d)\.(pathway\d)_res(\d+)\.", r"\2.res\1.\3."),
    (r"^s(\d)\.(pathway\d)_nonlocal(\d+)\.bn\.", r"\2.res\1.\3.nonlocal_.norm."),
    (r"^s(\d)\.(pathway\d)_nonlocal(\d+)\.conv_(\w+)\.", r"\2.res\1.\3.nonlocal_.\4."),
    (r"\.branch1\.", ".shortcut.conv."),
    (r"\.branch1_bn\.", ".shortcut.norm."),
    (r"\.branch2\.se\.fc1\.", ".b.then.0.squeeze."),
    (r"\.branch2\.se\.fc2\.", ".b.then.0.excite."),
    (r"\.branch2\.([abc])\.", r".\1.conv."),
    (r"\.branch2\.([abc])_bn\.", r".\1.norm."),
    (r"\.bn\.", ".norm."),
)


def _pyslowfast(state: Mapping[str, Tensor]) -> State:
    rules = list(_PSF)
    if any(".conv_xy." in name for name in state):  # X3D's stem
        rules = [(r"_stem\.conv\.", "_stem.time."), (r"_stem\.conv_xy\.", "_stem.space."), *rules]
    two = any("pathway1" in name for name in state)
    rules += [(r"^pathway0\.", "slow." if two else "body."), (r"^pathway1\.", "fast.")]
    renamed = _renamed(state, rules)
    wrapped = {name.split(".nonlocal_.")[0] + "." for name in renamed if ".nonlocal_." in name}
    return {_inside(name, wrapped): tensor for name, tensor in renamed.items()}


def _inside(name: str, wrapped: set[str]) -> str:
    """A block that a non-local one stands behind is called ``block`` in the sequence of the two."""
    prefix = ".".join(name.split(".")[:3]) + "."
    return name.replace(prefix, f"{prefix}block.") if prefix in wrapped and ".nonlocal_." not in name else name


_CAFFE2: tuple[Rule, ...] = (
    (r"_bn_s$", "_bn.weight"),
    (r"_bn_b$", "_bn.bias"),
    (r"_bn_rm$", "_bn.running_mean"),
    (r"_bn_riv$", "_bn.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
    (r"^pred\.", "head.projection."),
    (r"^(t_)?conv1\.", r"\1stem.conv."),
    (r"^(t_)?res_conv1_bn\.", r"\1stem.bn."),
    (r"^t_pool1_subsample\.", "s1_fuse.conv_f2s."),
    (r"^t_pool1_subsample_bn\.", "s1_fuse.bn."),
    (r"^t_res(\d)_\d+_branch2c_bn_subsample\.", r"s\1_fuse.conv_f2s."),
    (r"^t_res(\d)_\d+_branch2c_bn_subsample_bn\.", r"s\1_fuse.bn."),
    (r"^nonlocal_conv(\d)_(\d+)_bn\.", r"s\1.pathway0_nonlocal\2.bn."),
    (r"^nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)\.", r"s\1.pathway0_nonlocal\2.conv_\3."),
    (r"^t_stem\.", "s1.pathway1_stem."),
    (r"^stem\.", "s1.pathway0_stem."),
    (r"^t_res(\d)_(\d+)_", r"s\1.pathway1_res\2."),
    (r"^res(\d)_(\d+)_", r"s\1.pathway0_res\2."),
    (r"\.branch2([abc])", r".branch2.\1"),
)


def _caffe2(state: Mapping[str, Tensor]) -> State:
    return _pyslowfast(_renamed(state, _CAFFE2))


# --- I3D Inception ------------------------------------------------------------------------------------------------

_HASSONY2: tuple[Rule, ...] = (
    (r"^module\.", ""),
    (r"^conv3d_0c_1x1\.conv3d\.", "classifier."),
    (r"\.conv3d\.", ".conv."),
    (r"\.batch3d\.", ".norm."),
    (r"^(conv3d_|mixed_)", r"body.\1"),
)
_PIERGIAJ: tuple[Rule, ...] = (
    (r"^logits\.conv3d\.", "classifier."),
    (r"^Conv3d_", "body.conv3d_"),
    (r"^Mixed_", "body.mixed_"),
    (r"\.b0\.", ".branch_0."),
    (r"\.b([12])a\.", r".branch_\1.0."),
    (r"\.b([123])b\.", r".branch_\1.1."),
    (r"\.conv3d\.", ".conv."),
    (r"\.bn\.", ".norm."),
)
_TENSORFLOW: tuple[Rule, ...] = (
    (r"^(.*/)?inception_i3d/", ""),
    (r"^Logits/Conv3d_0c_1x1/conv_3d/w$", "classifier.weight"),
    (r"^Logits/Conv3d_0c_1x1/conv_3d/b$", "classifier.bias"),
    (r"^Conv3d_", "conv3d_"),
    (r"^Mixed_", "mixed_"),
    (r"/Branch_0/\w+?/", "/branch_0/"),
    (r"/Branch_([12])/Conv3d_0a_1x1/", r"/branch_\1.0/"),
    (r"/Branch_([123])/\w+?/", r"/branch_\1.1/"),
    (r"/conv_3d/w$", "/conv.weight"),
    (r"/batch_norm/beta$", "/norm.bias"),
    (r"/batch_norm/gamma$", "/norm.weight"),
    (r"/batch_norm/moving_mean$", "/norm.running_mean"),
    (r"/batch_norm/moving_variance$", "/norm.running_var"),
    (r"/", "."),
    (r"^(conv3d_|mixed_)", r"body.\1"),
)


def _tensorflow(state: Mapping[str, Tensor]) -> State:
    """Kernels (T, H, W, in, out) -> (out, in, T, H, W); a norm without gamma has a weight of one."""
    renamed = {
        name: tensor.permute(4, 3, 0, 1, 2).contiguous() if _is_kernel(name, tensor) else tensor.flatten()
        for name, tensor in _renamed(state, _TENSORFLOW).items()
    }
    for name in [name for name in renamed if name.endswith(".norm.bias")]:
        renamed.setdefault(name.replace(".bias", ".weight"), torch.ones_like(renamed[name]))
    return renamed


def _is_kernel(name: str, tensor: Tensor) -> bool:
    return tensor.ndim == 5 and ".norm." not in name


# --- C3D ----------------------------------------------------------------------------------------------------------

_C3D: tuple[Rule, ...] = (
    (r"^(conv\d[ab]?)\.(weight|bias)$", r"body.\1.conv.\2"),
    (r"^(fc[67])\.(weight|bias)$", r"\1.0.\2"),
    (r"^fc8\.", "classifier."),
)
_SEQUENTIAL = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3a",
    "features.8": "conv3b",
    "features.11": "conv4a",
    "features.13": "conv4b",
    "features.16": "conv5a",
    "features.18": "conv5b",
    "classifier.0": "fc6",
    "classifier.3": "fc7",
    "classifier.6": "fc8",
}

# --- all ----------------------------------------------------------------------------------------------------------

FORMATS = (
    Format("pytorchvideo", r"^(model\.)?blocks\.0\.(conv|norm|multipathway_blocks)\.", _pytorchvideo),
    Format("PySlowFast", r"^s1\.pathway0_stem\.", _pyslowfast),
    Format("Caffe2 (PySlowFast)", r"^res2_0_branch2a_w$", _caffe2),
    Format("hassony2 I3D", r"^(module\.)?mixed_3b\.branch_0\.conv3d\.", _by(*_HASSONY2)),
    Format("piergiaj I3D", r"^Mixed_3b\.b0\.conv3d\.", _by(*_PIERGIAJ)),
    Format("TensorFlow I3D", r"inception_i3d/.*/conv_3d/w$", _tensorflow),
    Format(
        "mmaction2 C3D",
        r"^(backbone\.)?conv1a\.conv\.weight$",
        _by(
            (r"^backbone\.", ""),
            (r"^cls_head\.fc_cls\.", "classifier."),
            (r"^(conv[12])a\.conv\.", r"\1."),
            (r"^(conv\d[ab])\.conv\.", r"\1."),
            *_C3D,
        ),
    ),
    Format(
        "Caffe C3D",
        r"^conv1a\[0\]$",
        _by(
            (r"\[0\]$", ".weight"), (r"\[1\]$", ".bias"), (r"^(fc\d)-\d+\.", r"\1."), (r"^(conv[12])a\.", r"\1."), *_C3D
        ),
    ),
    Format("DavideA C3D", r"^conv3a\.weight$", _by(*_C3D)),
    Format(
        "jfzhang95 C3D",
        r"^features\.18\.weight$",
        _by(*((rf"^{re.escape(theirs)}\.", f"{ours}.") for theirs, ours in _SEQUENTIAL.items()), *_C3D),
    ),
    Format(
        "torchvision S3D",
        r"^features\.0\.0\.0\.weight$",
        _by((r"^features\.", "body."), (r"^classifier\.1\.", "classifier.")),
    ),
    Format(
        "torchvision MViT",
        r"^pos_encoding\.class_token$",
        _by((r"^head\.1\.", "classifier."), (r"^(?!classifier\.)", "body.")),
    ),
    Format(
        "torchvision Swin3D",
        r"^features\.0\.0\.attn\.relative_position_bias_table$",
        _by((r"^head\.", "classifier."), (r"^(?!classifier\.)", "body.")),
    ),
    Format(
        "torchvision video ResNet",
        r"^layer1\.0\.conv1\.0\.",
        _by((r"^fc\.", "classifier."), (r"^(?!classifier\.)", "body.")),
    ),
)
