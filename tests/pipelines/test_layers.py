"""`untrimmed backbones NAME --layers`."""

import json
from pathlib import Path

import pytest
from commands import run

from pipelines.layers import layers_info, layers_lines


def test_the_table_people_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backbones", "slow:lecture", "--layers", "--clip", "20x64x64") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "slow:lecture, clips of 3×20×64×64 (C×T×H×W)"
    assert [line.split() for line in lines[2:9]] == [
        ["layer", "kind", "output", "C×T×H×W", "sees", "T×H×W", "parameters", "MMAC"],
        ["body.stage1.conv", "convolution", "3×3×3", "12×20×64×64", "3×3×3", "984", "79.63"],
        ["body.stage1.pool", "maximum", "4×4×4", "/4", "12×5×16×16", "6×6×6"],
        ["body.stage2.conv", "convolution", "3×3×3", "24×5×16×16", "14×14×14", "7,800", "9.95"],
        ["body.avgpool", "mean", "5×16×16", "24×1×1×1", "20×64×64"],
        ["classifier", "linear", "1000×1×1×1", "20×64×64", "25,000", "0.02"],
        ["in", "all", "33,784", "89.60"],
    ]
    assert all(line == line.rstrip() for line in lines)


def test_json_is_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backbones", "slow:lecture", "--layers", "--clip", "20x64x64", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["clip"], found["parameters"]) == ("slow:lecture", [3, 20, 64, 64], 33_784)
    assert found["multiply_adds"] == sum(layer["multiply_adds"] for layer in found["layers"])
    assert found["layers"][1] == {
        "name": "body.stage1.pool",
        "kind": "maximum",
        "kernel": [4, 4, 4],
        "stride": [4, 4, 4],
        "groups": 1,
        "calls": 1,
        "output": [12, 5, 16, 16],
        "sees": [6, 6, 6],
        "parameters": 0,
        "multiply_adds": 0,
    }


def test_kinds_and_what_takes_no_part() -> None:
    lines = "\n".join(layers_lines(layers_info("rcn:lecture")))
    assert "recurrent.0.state  16 times convolution 3×3 " in lines
    lines = "\n".join(layers_lines(layers_info("x3d_xs", "4x64x64")))
    assert "convolution 3×3×3 /1×2×2, 54 groups " in lines
    lines = "\n".join(layers_lines(layers_info("slow_r50_detection", "4x64x64")))
    assert lines.endswith("163,920 further parameters take no part: they read boxes, or serve training alone.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["slow:lecture", "--layers", "--clip", "20x64"], "--clip 20x64: expected frames x height x width, such as"),
        (["slow:lecture", "--layers", "--clip", "9999999x64x64"], "--clip 9999999x64x64: expected frames x height x"),
        (["slow:lecture", "--clip", "20x64x64"], "give --layers too"),
        (["--layers"], "name it: untrimmed backbones NAME --layers"),
        (["early:lecture", "--layers", "--clip", "20x64x64"], "name another length behind the backbone"),
        (["c3d_sport", "--layers"], "did you mean 'c3d_sports1m'"),
    ],
)
def test_what_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(monkeypatch, "backbones", *arguments) == 2
    assert said in capsys.readouterr().err


def test_without_layers_nothing_changed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "backbones", "c3d_sports1m", "--json") == 0
    assert "layers" not in json.loads(capsys.readouterr().out)


PAGE = (Path(__file__).parents[2] / "docs" / "anatomy.md").read_text(encoding="utf-8")


ROWS = [[cell.strip() for cell in line[1:-1].split("|")] for line in PAGE.splitlines() if line.startswith("|")]


def times(sizes: list[int]) -> str:
    return "×".join(map(str, sizes))


def test_the_page_shows_what_the_command_prints() -> None:
    shown = list(layers_lines(layers_info("slow:lecture", "20x64x64")))
    for line in shown[: shown.index("", 2)]:
        assert line in PAGE.splitlines()


def test_the_page_s_table_of_c3d() -> None:
    for layer in layers_info("c3d_sports1m")["layers"]:
        name = layer["name"].removeprefix("body.").removesuffix(".conv").removesuffix(".0")
        costs = [f"{layer['parameters']:,}", f"{layer['multiply_adds'] / 1e9:.2f}"] if layer["parameters"] else ["", ""]
        assert [name, times(layer["output"]), times(layer["sees"]), *costs] in ROWS


@pytest.mark.parametrize("family", ["frames", "early", "slow"])
def test_the_page_s_table_of_fusion(family: str) -> None:
    found = layers_info(f"{family}:lecture:20x64")
    column = ["frames", "early", "slow"].index(family)
    named = {"first convolution": 0, "maximum": 1, "second convolution": 2, "mean": -2}
    rows = {cells[0]: cells[1:] for cells in ROWS if len(cells) == 7}
    for name, at in named.items():
        layer = found["layers"][at]
        assert rows[name][2 * column : 2 * column + 2] == [times(layer["output"]), times(layer["sees"])]
    before = found["parameters"] - found["layers"][-1]["parameters"]
    assert rows["parameters before the last layer"][2 * column] == f"{before:,}"
    assert rows["million multiply-adds"][2 * column] == f"{found['multiply_adds'] / 1e6:.1f}"


@pytest.mark.parametrize("name", ["frames:alexnet", "frames:vgg16", "c3d_sports1m"])
def test_the_page_s_totals(name: str) -> None:
    found = layers_info(name)
    (cells,) = (row for row in ROWS if f"(`{name}`)" in row[0])
    assert (cells[1], cells[3]) == (f"{found['multiply_adds'] / 1e9:.3f}", f"{found['parameters']:,}")
