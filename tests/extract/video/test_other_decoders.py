"""decord and TorchCodec: the same frames as PyAV's, or a refusal."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from footage import encode, index_of, read, regular

from extract.errors import MachineError, VideoError
from extract.video import open_video, read_frames, resize_kernel
from extract.video._decoders import find_decoder


def usable(decoder: str) -> bool:
    try:
        find_decoder(decoder).library()
    except MachineError:
        return False
    return True


def needs(decoder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not usable(decoder), reason=f"{decoder} cannot be used on this machine")


OTHERS = [pytest.param(name, marks=needs(name)) for name in ("decord", "torchcodec", "torchcodec:cuda")]


@pytest.mark.parametrize("decoder", OTHERS)
@pytest.mark.parametrize("name", ["b-frames.mp4", "uneven.mp4", "ntsc.mp4", "one-key.mp4", "vp9.webm"])
@pytest.mark.parametrize("options", [{}, {"fps": 10.0}, {"fps": 0.9}, {"start_s": 1.0, "stop_s": 2.0}])
def test_others_give_the_same_frames(
    made: dict[str, Path], name: str, decoder: str, options: dict[str, object]
) -> None:
    rows, report = read(made[name], decoder=decoder, **options)
    wanted, wanted_report = read(made[name], **options)
    assert rows == wanted
    assert report.decoder == decoder
    assert report.display_end_s == wanted_report.display_end_s
    assert not report.partial


@pytest.mark.parametrize("decoder", OTHERS)
def test_others_resize_with_kernels_of_their_own(made: dict[str, Path], decoder: str) -> None:
    small = next(read_frames(made["b-frames.mp4"], decoder=decoder, short_side=60)).pixels
    assert small.shape[1:] == (60, 90, 3)
    assert [index_of(picture) for picture in small] == list(range(32))
    assert resize_kernel(decoder) != resize_kernel("pyav")


@pytest.mark.parametrize("decoder", OTHERS)
def test_others_turn_pictures_upright(tmp_path: Path, decoder: str) -> None:
    path = encode(tmp_path / "turned.mp4", regular(3), rotation=90)
    wanted = next(read_frames(path)).pixels.astype(int)
    np.testing.assert_allclose(next(read_frames(path, decoder=decoder)).pixels, wanted, atol=3)


@needs("torchcodec")
def test_torchcodec_reads_open_groups(made: dict[str, Path]) -> None:
    for options in ({}, {"fps": 0.9}, {"start_s": 1.0, "stop_s": 2.0}):
        assert (
            read(made["open-gop.mkv"], decoder="torchcodec", **options)[0] == read(made["open-gop.mkv"], **options)[0]
        )


@pytest.mark.parametrize(
    ("decoder", "name", "why"),
    [
        pytest.param("decord", "open-gop.mkv", "open groups", marks=needs("decord")),
        pytest.param("decord", "late-start.ts", "not trusted with mpegts", marks=needs("decord")),
        pytest.param("decord", "raw.h264", "not trusted", marks=needs("decord")),
        pytest.param("torchcodec", "late-start.ts", "has time", marks=needs("torchcodec")),
        pytest.param("torchcodec", "raw.h264", "without times", marks=needs("torchcodec")),
    ],
)
def test_others_refuse_what_they_get_wrong(made: dict[str, Path], decoder: str, name: str, why: str) -> None:
    with pytest.raises(VideoError, match=f"{why}.*--decoder pyav") as caught:
        next(read_frames(made[name], decoder=decoder))
    assert caught.value.reason == f"{decoder}_refused"


@pytest.mark.parametrize("decoder", OTHERS)
def test_others_refuse_damage(broken: Path, decoder: str) -> None:
    with pytest.raises(VideoError, match="--decoder pyav"):
        read(broken, decoder=decoder)


@pytest.mark.parametrize("decoder", OTHERS)
def test_others_refuse_missing_frames(tmp_path: Path, decoder: str) -> None:
    whole = encode(tmp_path / "whole.mkv", regular(60), options={"bf": "0"})
    path = tmp_path / "missing.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and number not in range(30, 34):
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="frames are missing"):
        read(path, decoder=decoder)


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_an_absent_decoder_is_named(made: dict[str, Path], decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, decoder, None)
    with pytest.raises(MachineError, match=rf"{decoder} cannot be imported.*--decoder pyav"):
        open_video(made["b-frames.mp4"], decoder=decoder)
