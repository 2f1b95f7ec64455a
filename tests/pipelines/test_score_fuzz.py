"""Broken bytes in the files of every protocol: a figure or an error of ours, never anything else, and soon."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from broken import broken

from extract.errors import UntrimmedError
from pipelines.scoring import PROTOCOLS, Options, score

ROUNDS = 40
SCORES = " ".join(["0.25"] * 157)
SPANS = json.dumps(
    {
        "database": {
            "v1": {"subset": "validation", "duration": 9.0, "annotations": [{"segment": [1.0, 4.5], "label": "a"}]}
        }
    }
)
FOUND = json.dumps({"results": {"v1": [{"segment": [1.5, 4.0], "label": "a", "score": 0.5}]}}, indent=1)
TUBES = {"labels": ["a"], "test_videos": [["v1"]], "gttubes": {"v1": {"0": [[[1, 0, 0, 9, 9], [2, 0, 0, 9, 9]]]}}}
AVA = ("v1,0902,0.1,0.1,0.5,0.5,1,0\nv1,0903\n", "v1,902,0.1,0.1,0.5,0.6,1,0.5\nv1,903,0,0,1,1,1,0.25\n")
CHARADES = "id,actions,length\nA,c000 0.50 2.25;c001 1 2,9.5\nB,,3\n"
FILES = {
    "activitynet": (SPANS, FOUND),
    "activitynet-proposals": (SPANS, FOUND),
    "activitynet-classification": (SPANS, FOUND),
    "thumos14": (SPANS, FOUND),
    "ava": AVA,
    "ava-2019": AVA,
    "ava-2018": AVA,
    "charades": (CHARADES, f"A {SCORES}\nB {SCORES}\n"),
    "charades-localize": (CHARADES, f"A 1 {SCORES}\nA 25 {SCORES}\n"),
    "segmental": ("a\na\nbackground\nb\n", "### Frame level recognition: ###\na b background b\n"),
    "topk": ("video,label\nv1,0\nv2,1\n", "video,view,c0,c1\nv1,0,0.5,0.25\nv2,0,0.1,0.75\n"),
    "gap": ("1,0,0\n0,1,1\n", "0.9,0.8,0.1\n0.2,0.7,0.3\n"),
    "video-map": (json.dumps(TUBES), '{"0": [{"video": "v1", "score": 0.5, "tube": [[1, 0, 0, 9, 9, 0.5]]}]}'),
}


def place(folder: Path, protocol: str, name: str) -> Path:
    """Where a file goes: `segmental` has folders."""
    path = folder / name / "v1.txt" if protocol == "segmental" else folder / name
    path.parent.mkdir(exist_ok=True)
    return path


def outcome(run: Callable[[], object]) -> str:
    """What became of a score: "refused" or "scored"."""
    try:
        result = run()
    except UntrimmedError as error:
        return "refused" if len(str(error)) < 2500 else f"too long: {error}"
    json.dumps(result, allow_nan=False)
    return "scored"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_broken_files(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "list.pbtxt").write_text('item { name: "a" id: 1 }\n')
    options = Options(labels=tmp_path / "list.pbtxt" if protocol.startswith("ava") else None)
    paths = [place(tmp_path, protocol, name) for name in ("truth", "found")]
    given = [path.parent if protocol == "segmental" else path for path in paths]
    intact = [text.encode() for text in FILES[protocol]]
    for path, data in zip(paths, intact, strict=True):
        path.write_bytes(data)
    assert outcome(lambda: score(protocol, *given, options=options)) == "scored"
    rng, began = np.random.default_rng(len(protocol)), time.monotonic()
    seen = set()
    for _ in range(ROUNDS):
        which = int(rng.integers(0, 2))
        paths[which].write_bytes(broken(intact[which], rng))
        seen.add(outcome(lambda: score(protocol, *given, options=options, bootstrap=2)))
        paths[which].write_bytes(intact[which])
    assert "refused" in seen
    assert seen <= {"refused", "scored"}
    assert time.monotonic() - began < 20
