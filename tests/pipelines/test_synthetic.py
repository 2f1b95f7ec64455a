"""Motion worlds: the verbs mean what they say, the files are deterministic, the labels balanced and true."""

import csv
import filecmp
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError, UsageError
from extract.video import open_video, probe
from pipelines.annotations import read_activitynet
from pipelines.annotations.ava import AvaVideo, read_ava
from pipelines.synthetic import VERBS, synthesize
from pipelines.synthetic.encode import ENCODINGS, write_video
from pipelines.synthetic.memory import ALONE, CLASSES, RESPONSES, SIGNALS, labels_of, places
from pipelines.synthetic.scene import Scene, compose
from pipelines.synthetic.verbs import MIRRORED, REVERSED, Event, Manner, Pose, draw_manner, pose_at
from pipelines.synthetic.worlds import MAX_SEED, ORDER_VERBS, write_scripts

REST = Pose(x=0.6, y=0.5, size=0.1, angle=0.3, mix=0.4)
HOW = Manner(reach=0.5, factor=2.0, rate=2.0, cycles=1.0, spin=1.0, phase=0.0)


def at(verb: str, t: float) -> Pose:
    return pose_at(REST, Event(verb, 0.0, 2.0), HOW, t)


@pytest.mark.parametrize(
    ("verb", "field", "sign"),
    [
        ("slide_left", "x", -1),
        ("slide_right", "x", 1),
        ("slide_up", "y", -1),
        ("slide_down", "y", 1),
        ("rotate_ccw", "angle", 1),
        ("rotate_cw", "angle", -1),
        ("grow", "size", 1),
        ("shrink", "size", -1),
        ("blue_to_orange", "mix", 1),
        ("orange_to_blue", "mix", -1),
        ("part", "x", 1),
        ("approach", "x", -1),
    ],
)
def test_verb_changes_its_own_quantity_in_its_own_direction(verb: str, field: str, sign: int) -> None:
    values = [getattr(at(verb, t), field) for t in (0.0, 0.5, 1.0, 1.5, 1.99)]
    assert all(sign * (b - a) > 0 for a, b in itertools.pairwise(values))
    others = {"x", "y", "size", "angle", "mix"} - {field}
    assert all(getattr(at(verb, 0.2), name) == getattr(at(verb, 1.8), name) for name in others)


@pytest.mark.parametrize("verb", ["bounce", "shake", "orbit", "blink"])
def test_periodic_verbs_come_back_after_a_period(verb: str) -> None:
    first, later = at(verb, 0.2), at(verb, 1.2)
    assert first.x == pytest.approx(later.x)
    assert first.y == pytest.approx(later.y)
    assert first.visible == later.visible
    moved = [at(verb, t) for t in np.linspace(0, 1.9, 40)]
    assert max(p.x for p in moved) - min(p.x for p in moved) > 0.05 or verb in ("bounce", "blink")
    assert {p.visible for p in moved} == ({True, False} if verb == "blink" else {True})


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_moves_before_or_after_the_event(verb: str) -> None:
    event = Event(verb, 1.0, 3.0)
    assert pose_at(REST, event, HOW, 0.0) == pose_at(REST, event, HOW, 0.9)
    assert pose_at(REST, event, HOW, 3.0) == pose_at(REST, event, HOW, 9.0)


def test_mirrored_and_reversed_verbs_pair_up() -> None:
    for swap in (MIRRORED, REVERSED):
        assert all(swap[swap[verb]] == verb for verb in swap)
        assert set(swap) <= set(VERBS)


def test_manner_is_visible_in_a_clip() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        how = draw_manner(rng, Event("slide_left", 0.0, float(rng.uniform(2.0, 3.5))))
        assert how.reach > 0.3
        assert how.factor > 1.7


def scene_of(verb: str, seed: int = 3) -> Scene:
    return compose(np.random.default_rng(seed), events=[Event(verb, 0.0, 2.0)], duration_s=2.0, distractors=2)


def test_frames_are_pictures_and_repeatable() -> None:
    frame = scene_of("orbit").frame(0.5)
    assert frame.shape == (120, 160, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 5
    np.testing.assert_array_equal(frame, scene_of("orbit").frame(0.5))
    assert not np.array_equal(frame, scene_of("orbit").frame(0.6))


def test_boxes_follow_the_performer() -> None:
    scene = scene_of("slide_left")
    (early,), (late,) = scene.boxes(0.1), scene.boxes(1.9)
    assert early[1].verb == late[1].verb == "slide_left"
    assert late[2][0] < early[2][0] - 0.1
    assert scene.boxes(2.5) == []
    assert len(scene_of("approach").boxes(1.0)) == 2


@pytest.mark.parametrize("kind", ["trimmed", "order"])
def test_labels_are_balanced_in_each_subset(kind: str) -> None:
    scripts = write_scripts(kind, videos=96, seconds=None, seed=5)
    for subset in ("training", "validation"):
        counts = Counter(script.label for script in scripts if script.subset == subset)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(script.subset == "validation" for script in scripts) == 32
    assert {script.encoding for script in scripts} == set(range(len(ENCODINGS)))


def test_order_videos_differ_in_the_order_alone() -> None:
    for script in write_scripts("order", videos=40, seconds=30.0, seed=1):
        assert script.label is not None
        verbs = [event.verb for event in script.events]
        assert sorted(verb for verb in verbs if verb in ORDER_VERBS) == sorted(ORDER_VERBS)
        first, second = script.label.split("_then_")
        assert verbs.index(first) < verbs.index(second)
        early, late = (next(e for e in script.events if e.verb == verb) for verb in (first, second))
        assert late.start_s - early.stop_s > 30.0 / 3
        assert all(e.start_s >= 0 and e.stop_s <= 30.0 for e in script.events)


def test_untrimmed_videos_have_idle_and_overlap() -> None:
    scripts = write_scripts("untrimmed", videos=20, seconds=120.0, seed=2)
    events = [script.events for script in scripts]
    assert any(b.start_s < a.stop_s for found in events for a, b in itertools.pairwise(found))
    busy = sum(e.stop_s - e.start_s for found in events for e in found)
    assert 0.2 < busy / (20 * 120.0) < 0.7
    assert {e.verb for found in events for e in found} == set(VERBS)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.codec}-{float(e.rate):.2f}-{e.variable}")
def test_encoded_times_are_the_asked_ones(encoding: object, tmp_path: Path) -> None:
    chosen = next(e for e in ENCODINGS if e is encoding)
    ticks = chosen.times(2.0, np.random.default_rng(0))
    path = tmp_path / f"v{chosen.suffix}"
    write_video(path, scene_of("bounce").frame, chosen, ticks)
    with open_video(path) as reader:
        seen = np.concatenate([batch.pts_s for batch in reader])
    np.testing.assert_allclose(seen - seen[0], [float(t * chosen.time_base) for t in ticks], atol=0.0011)
    assert probe(path).codec == ("h264" if chosen.codec == "libx264" else "vp9")
    if chosen.variable:
        assert len(set(np.round(np.diff(seen), 3))) > 2


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        synthesize("trimmed", tmp_path / name, videos=6, seconds=1.0, seed=9, workers=workers)
    names = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len([name for name in names if name.parts[0] == "videos"]) == 6
    _, different, errors = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", [str(n) for n in names], shallow=False)
    assert different == errors == []
    synthesize("trimmed", tmp_path / "c", videos=6, seconds=1.0, seed=10, workers=1)
    assert (tmp_path / "a/annotations.json").read_bytes() != (tmp_path / "c/annotations.json").read_bytes()


def test_annotations_in_the_fields_formats(tmp_path: Path) -> None:
    made = synthesize("untrimmed", tmp_path / "w", videos=3, seconds=12.0, seed=4, workers=1)
    assert read_activitynet(tmp_path / "w/annotations.json") == made
    assert {video.video_id for video in made.videos} == {p.name for p in (tmp_path / "w/videos").iterdir()}
    with (tmp_path / "w/boxes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    segments = {video.video_id: video.segments for video in made.videos}
    assert rows
    for video_id, second, x1, y1, x2, y2, action, _ in rows:
        verb = VERBS[int(action) - 1]
        assert any(s.label == verb and s.start_s <= int(second) <= s.stop_s for s in segments[video_id])
        assert 0 <= float(x1) < float(x2) <= 1
        assert 0 <= float(y1) < float(y2) <= 1
    assert f"name: {json.dumps(VERBS[0])}" in (tmp_path / "w/actions.pbtxt").read_text()
    ava = read_ava(tmp_path / "w")
    assert ava.classes == tuple(VERBS)
    assert sum(len(video) for videos in ava.subsets.values() for video in videos.values()) == len(rows)
    synthesize("trimmed", tmp_path / "t", videos=2, seconds=1.0, workers=1)
    with (tmp_path / "t/kinetics.csv").open(newline="") as file:
        header, *clips = csv.reader(file)
    assert header == ["label", "youtube_id", "time_start", "time_end", "split"]
    assert {row[4] for row in clips} <= {"training", "validation"}


def test_memory_labels_by_the_last_signal_of_30_s() -> None:
    signal, other = Event("blink", 1.0, 4.0), Event("shake", 3.0, 5.0)
    late = [Event("grow", start_s, start_s + 2) for start_s in (3.9, 4.0, 4.9, 5.0, 35.0, 35.1)]
    assert labels_of([*late, signal, other]) == [
        "grow_alone",
        "grow_after_blink",  # shake began, but has not ended
        "grow_after_blink",
        "grow_after_shake",
        "grow_after_shake",
        "grow_alone",
        "blink",
        "shake",
    ]


@pytest.mark.parametrize("seconds", [20.0, 28.0, 30.0, 61.0, 120.0, 300.0])
def test_memory_classes_of_a_response_are_balanced(seconds: float) -> None:
    for script in write_scripts("memory", videos=12, seconds=seconds, seed=3):
        labels = labels_of(script.events)
        names = Counter(label.partition("_after_")[2] or ALONE for label in labels if label not in SIGNALS)
        assert set(names) == {ALONE, *SIGNALS}
        assert len(set(names.values())) == 1
        if seconds > 60:
            assert set(labels) == set(CLASSES)
        assert all(0 <= event.start_s < event.stop_s <= seconds for event in script.events)
        assert [event.start_s for event in script.events] == sorted(event.start_s for event in script.events)


def test_memory_windows_hold_what_their_labels_need_and_traps() -> None:
    trapped = total = 0
    for script in write_scripts("memory", videos=24, seconds=120.0, seed=4):
        signals = [event for event in script.events if event.verb in SIGNALS]
        for event, label in zip(script.events, labels_of(script.events), strict=True):
            if event.verb not in RESPONSES:
                continue
            since = [event.start_s - s.stop_s for s in signals if s.stop_s <= event.start_s]
            assert not since or min(since) < 24 or min(since) > 31
            others = [s for s in signals if abs(s.start_s - event.start_s) < 28 and not label.endswith(s.verb)]
            trapped, total = trapped + bool(others), total + 1
    assert 0.4 < trapped / total < 0.95


def test_memory_actors_keep_apart() -> None:
    script = write_scripts("memory", videos=1, seconds=120.0, seed=5)[0]
    middles = dict(zip(script.events, places(np.random.default_rng(0), script.events), strict=True))
    gaps = [
        float(np.hypot(*np.subtract(middles[a], middles[b])))
        for a, b in itertools.combinations(script.events, 2)
        if a.start_s < b.stop_s and b.start_s < a.stop_s
    ]
    assert len(gaps) > 3
    assert min(gaps) > 0.3


def test_memory_world_in_avas_forms(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        synthesize("memory", tmp_path / name, videos=3, seconds=20.0, seed=2, workers=workers)
    world = tmp_path / "a"
    files = sorted(str(p.relative_to(world)) for p in world.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(world, tmp_path / "b", files, shallow=False)[0] == files
    assert [name for name in files if "videos" not in name] == [
        "actions.pbtxt",
        "annotations.json",
        "ava_train.csv",
        "ava_val.csv",
        "boxes.csv",
        "verbs.json",
    ]
    ava, annotations = read_ava(world), read_activitynet(world / "annotations.json")
    assert ava.classes == CLASSES
    segments = {video.video_id: video.segments for video in annotations.videos}
    for subset in ("training", "validation"):
        assert set(ava.subset(subset)) == {v.video_id for v in annotations.subset(subset).videos}
        for video_id, video in ava.subset(subset).items():
            for second, action in zip(video.second, video.action, strict=True):
                label = CLASSES[action]
                assert any(s.label == label and s.start_s <= second < s.stop_s for s in segments[video_id])
    verbs = {v.video_id: [s.label for s in v.segments] for v in read_activitynet(world / "verbs.json").videos}
    assert set(verbs) == set(segments)
    assert {verb for labels in verbs.values() for verb in labels} == {*SIGNALS, *RESPONSES}
    check_detections(world / "boxes.csv", [video for name in ava.subsets for video in ava.subset(name).items()])


def check_detections(path: Path, videos: list[tuple[str, AvaVideo]]) -> None:
    """Most performers are found, with higher scores than other things."""
    with path.open(newline="") as file:
        rows = [(row[0], float(row[1]), *map(float, row[2:6]), row[6], float(row[7])) for row in csv.reader(file)]
    assert {row[6] for row in rows} == {""}
    assert all(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for _, _, x1, y1, x2, y2, _, _ in rows)
    true = {(name, second, *box) for name, v in videos for second, box in zip(v.second, v.box.tolist(), strict=True)}
    near = [any(r[:2] == t[:2] and np.abs(np.subtract(r[2:6], t[2:])).max() < 0.1 for t in true) for r in rows]
    scores, found = np.array([row[7] for row in rows]), np.array(near)
    assert 0.8 * len(true) < found.sum() < 1.2 * len(true)
    assert (~found).sum() > 0.2 * len(true)
    assert scores[found].mean() > scores[~found].mean() + 0.1
    assert scores[~found].max() > scores[found].min()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no world called .memories.*trimmed, untrimmed, order, memory"):
        synthesize("memories", tmp_path / "a")
    with pytest.raises(UsageError, match="--seconds is 3; a video of the order world lasts 16 to 86400"):
        synthesize("order", tmp_path / "a", seconds=3)
    with pytest.raises(UsageError, match="--videos is 0"):
        synthesize("order", tmp_path / "a", videos=0)
    with pytest.raises(UsageError, match="embedded backbone"):
        synthesize("order", tmp_path / "a", seed=MAX_SEED)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(InputError, match="is not empty"):
        synthesize("order", tmp_path / "full")
    with pytest.raises(InputError, match="is a file"):
        synthesize("order", tmp_path / "full/x")
