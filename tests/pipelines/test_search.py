"""More moments like one: exact against a plain reference, whatever the store looks like, and a page that plays them."""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import Watched, chromium
from commands import run
from footage import encode
from numpy.typing import NDArray

from extract.errors import InputError, UsageError
from extract.store import FeatureStore, VideoFeatures
from pipelines.extraction import Options, run_extraction
from pipelines.search import Query, found_json, parse_query, search, write_found
from pipelines.searching.cosine import cosines
from pipelines.searching.moments import best_windows, moments_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTH = 24
RECIPE = {"backbone": "made", "feature_width": WIDTH, "stored_dtype": "float16"}
REAL = Path(__file__).parents[3] / "shared" / "videos"


@pytest.fixture(autouse=True)
def quick_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def made(video_id: str, features: NDArray[Any], *, uri: str = "", fingerprint: str = "x") -> VideoFeatures:
    clips = len(features)
    start_s = np.arange(clips) * 0.5
    return VideoFeatures(
        video_id,
        features.astype(np.float32),
        start_s,
        start_s + 1.0,
        np.full(clips, 8, np.int32),
        np.arange(clips) == 7,
        clips * 0.5 + 0.5,
        fingerprint,
        "ok",
        {"uri": uri},
    )


def drawn(clips: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(clips, WIDTH)), 0) * 0.3 + rng.normal(size=(clips, WIDTH)) + 2


def add(store: FeatureStore, *videos: VideoFeatures) -> None:
    store.commit(store.write_segment(videos))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Published videos, a replaced one among them, and some that are only in segments."""
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    add(store, made("a/one.mp4", drawn(90, 0)), made("b", drawn(5, 1)), made("old", drawn(40, 2)))
    add(store, made("a/one@2-3.mp4", drawn(1, 3)))
    add(store, made("old", drawn(33, 4), fingerprint="new"))
    store.publish()
    add(store, made("late", drawn(70, 5)), made("later", drawn(2, 6)))
    return store


def reference(store: FeatureStore, query: str, first: int, stop: int) -> dict[str, NDArray[np.float64]]:
    """Cosines by video, in float64 and all at once."""
    every = {video_id: store[video_id].features.astype(np.float64) for video_id in store}
    centre = np.concatenate(list(every.values())).mean(0)
    centred = {video_id: features - centre for video_id, features in every.items()}
    units = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in centred.items()}
    direction = units[query][first:stop].mean(0)
    return {video_id: unit @ (direction / np.linalg.norm(direction)) for video_id, unit in units.items()}


def scores_of(store: FeatureStore, direction: NDArray[np.float32], block_bytes: int) -> dict[str, NDArray[np.float32]]:
    laid = store.layout(block_bytes=block_bytes)
    assert laid.blocks[0].row == 0
    assert sum(block.rows for block in laid.blocks) == laid.rows == sum(store.catalogue[v].rows for v in store)
    found = cosines(store, laid, direction, np.zeros(WIDTH, np.float32), threads=2)
    return {video_id: found[laid.rows_of(video_id)] for video_id in laid.video_ids}


@pytest.mark.parametrize("block_bytes", [1, 7 * WIDTH * 2, 2**22])
def test_every_clip_of_the_latest_versions_is_compared_exactly(store: FeatureStore, block_bytes: int) -> None:
    direction = np.random.default_rng(9).normal(size=WIDTH).astype(np.float32)
    found = scores_of(store, direction, block_bytes)
    assert sorted(found) == list(store)
    for video_id, cosine in found.items():
        features = store[video_id].features.astype(np.float64)
        expected = features @ direction / np.linalg.norm(features, axis=1) / np.linalg.norm(direction)
        np.testing.assert_allclose(cosine, expected, atol=2e-6)


def test_blocks_are_read_after_compaction_and_where_others_wrote_the_arrays_anew(store: FeatureStore) -> None:
    direction = np.ones(WIDTH, np.float32)
    before = scores_of(store, direction, 2**10)
    store.publish()
    for path in (Path(store.url) / "features").rglob("c*"):
        if path.is_file():
            path.unlink()  # not one published block can be read as a range any more
    for video_id, cosine in scores_of(store, direction, 2**10).items():
        np.testing.assert_allclose(cosine, before[video_id], atol=1e-6)


@pytest.mark.parametrize(("video_id", "start_s", "stop_s"), [("a/one.mp4", 10.0, 13.0), ("late", 0.0, 2.0)])
def test_moments_equal_a_plain_search(store: FeatureStore, video_id: str, start_s: float, stop_s: float) -> None:
    found = search(store, [Query(video_id, start_s, stop_s)], k=1000)
    middle = store[video_id].start_s + 0.5
    inside = np.flatnonzero((middle >= start_s) & (middle < stop_s))
    expected = reference(store, video_id, inside[0], inside[-1] + 1)
    own, *others = found.results
    assert (own.is_self, own.video_id) == (True, video_id)
    assert own.start_s - 0.5 <= start_s < stop_s <= own.stop_s + 0.5  # clips are 1 s long
    assert own.score == pytest.approx(expected[video_id][inside].mean(), abs=1e-5)
    assert not any(result.is_self for result in others)
    assert [result.score for result in others] == sorted((result.score for result in others), reverse=True)
    length = len(inside)
    for name, cosine in expected.items():
        here = [result for result in others if result.video_id == name]
        windows = np.convolve(cosine, np.ones(min(length, len(cosine))) / min(length, len(cosine)), "valid")
        if name != video_id:
            assert max(result.score for result in here) == pytest.approx(windows.max(), abs=1e-5)
        spans = sorted((result.start_s, result.stop_s) for result in (*here, own) if result.video_id == name)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))


def test_few_results_are_the_first_of_many(store: FeatureStore) -> None:
    many = search(store, ["old@3-5"], k=1000).results
    for k in (1, 2, 5):
        assert search(store, ["old@3-5"], k=k).results == many[: k + 1]


def test_a_copy_of_the_moment_comes_first_and_long_ones_are_one_result(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    scene, noise = drawn(4, 20), np.random.default_rng(0).normal(size=(300, WIDTH)) * 0.05
    videos = {name: drawn(60, seed) for seed, name in enumerate(("q", "copy", "long"))}
    videos["q"][20:24] = videos["copy"][41:45] = scene + noise[:4]
    videos["long"][10:40] = scene.mean(0) + noise[:30]
    add(store, *(made(name, features) for name, features in videos.items()))
    own, *others = search(store, ["q@10.5-12.5"], k=3).results
    assert (own.video_id, own.is_self) == ("q", True)
    spans = {result.video_id: (result.start_s, result.stop_s) for result in others[:2]}
    assert spans["copy"][0] <= 20.75 < 22.75 <= spans["copy"][1]
    assert spans["long"][0] <= 5.25 + 1 < 20.25 - 1 <= spans["long"][1]


def test_windows_and_growth_in_worked_numbers() -> None:
    cosine = np.array([0.1, 0.9, 0.9, 0.1, 0.8, 0.5, 0.6, 0.2], np.float32)
    starts = np.array([0, 4, 4, 5, 8])
    np.testing.assert_allclose(best_windows(cosine, starts, 2), [0.9, -np.inf, 0.8, 0.55], atol=1e-7)
    np.testing.assert_allclose(best_windows(cosine, starts, 9), [0.5, -np.inf, 0.8, 1.3 / 3], atol=1e-7)
    found = [(m.first, m.stop, round(m.score, 3), own) for m, own in moments_in(cosine, 2, most=9, own=((4, 5),))]
    assert found == [(4, 5, 0.8, True), (1, 3, 0.9, False), (5, 7, 0.55, False)]
    flat = np.full(10, 0.5, np.float32)
    assert [(m.first, m.stop) for m, _ in moments_in(flat, 3, most=9)] == [(0, 10)]
    assert [(m.first, m.stop) for m, _ in moments_in(-flat, 4, most=9)] == [(0, 4), (4, 8)]


def test_several_queries_are_one_direction(store: FeatureStore) -> None:
    found = search(store, ["a/one.mp4@10-13", "late@5-6"], k=2)
    assert [(result.video_id, result.is_self) for result in found.results[:2]] == [("a/one.mp4", True), ("late", True)]
    assert len(found.results) == 4


def test_degenerate_stores(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "one", RECIPE)
    add(store, made("v", np.ones((1, WIDTH))))
    found = search(store, ["v@0.9-0.95"])
    assert [(r.video_id, r.is_self, r.score, r.start_s, r.stop_s) for r in found.results] == [("v", True, 0, 0.0, 1.0)]
    assert json.loads(json.dumps(found_json(found, store.url)))["clips"] == 1


def test_damaged_clips_are_flagged(store: FeatureStore) -> None:
    assert search(store, ["a/one.mp4@4-4.5"], k=1).results[0].damaged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v.mp4@12.0-18.0", Query("v.mp4", 12, 18)),
        ("a@b/c d-e.mp4@1:02:03.5-1:02:04", Query("a@b/c d-e.mp4", 3723.5, 3724)),
        ("v@1-2@00:30 - 00:45", Query("v@1-2", 30, 45)),
        ("-@0-0.5", Query("-", 0, 0.5)),
    ],
)
def test_queries_are_read_from_the_right(text: str, expected: Query) -> None:
    assert parse_query(text) == expected


@pytest.mark.parametrize(
    "text", ["", "v", "v@", "@1-2", "v@1", "v@2-1", "v@1-1", "v@-1-2", "v@1-nan", "v@a-b", "v@1e9-2"]
)
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="query"):
        parse_query(text)


def test_errors_say_what_there_is(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no video 'a/two.mp4'; near: 'a/one.mp4'"):
        search(store, ["a/two.mp4@1-2"])
    with pytest.raises(InputError, match=r"ends at .* the query begins at 99 s"):
        search(store, ["late@99-100"])
    with pytest.raises(UsageError, match="k 0"):
        search(store, ["late@1-2"], k=0)
    boxes = FeatureStore.create(tmp_path / "boxes", {**RECIPE, "roi": "people"})
    with pytest.raises(UsageError, match="features of boxes"):
        search(boxes, ["late@1-2"])


def test_the_command(store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    output = Path(store.url).parent / "more.json"
    arguments = ("search", store.url, "--query", "late@5-6", "-k", 3)
    assert run(monkeypatch, *arguments, "--json", "-o", output) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(output.read_text())
    assert printed["query"] == [{"video": "late", "start": 5.0, "stop": 6.0}]
    assert set(printed["results"][0]) == {"video", "start", "stop", "score", "self", "damaged"}
    assert [result["self"] for result in printed["results"]] == [True, False, False, False]
    assert run(monkeypatch, *arguments) == 0
    assert "query" in capsys.readouterr().out
    assert run(monkeypatch, *arguments, "-o", output.with_suffix(".txt")) == 2
    assert run(monkeypatch, *arguments, "-o", output.parent / "no" / "x.html") == 3
    assert run(monkeypatch, "search", store.url, "--query", "nobody@1-2") == 3


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no videos in {REAL}")
def test_a_moment_of_a_real_video_finds_its_own_neighbourhood_first(tmp_path: Path) -> None:
    names = ("arm_wrestling.mp4", "v_GGSY1Qvo990.mp4")
    for name in names:
        (tmp_path / name).symlink_to(REAL / name)
    store, _ = run_extraction(tmp_path, tmp_path / "f.zarr", options=Options())
    for query in (Query("v_GGSY1Qvo990.mp4", 12, 14), Query("arm_wrestling.mp4", 3, 6)):
        first, *others = search(store, [query], k=20).results
        assert (first.video_id, first.is_self) == (query.video_id, True)
        assert max(first.start_s, query.start_s) < min(first.stop_s, query.stop_s)
        assert first.score > max(other.score for other in others)  # by its score too, not by its rank alone


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as started:
        yield started


HOSTILE = '</script><img src=x onerror="window.hurt=1">\'&.webm'


def test_the_page_plays_moments_within_their_bounds(browser: "Browser", tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / '</script><img src=x onerror="window.hurt=1">\'&.webm').parent.mkdir(parents=True)
    times = [Fraction(n, 25) for n in range(200)]
    encode(folder / "q 1#?.webm", times, codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"})
    encode(folder / HOSTILE, times, codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"})
    store = FeatureStore.create(tmp_path / "store", RECIPE)
    add(store, made("q 1#?.webm", drawn(15, 1)), made(HOSTILE, drawn(15, 2)), made("gone.mp4", drawn(15, 3)))
    found = search(store, ["q 1#?.webm@2-3"], k=6)
    page_file = tmp_path / "pages" / "more.html"
    page_file.parent.mkdir()
    write_found(found, store, page_file, videos=folder)

    watched = Watched(browser.new_context())
    page = watched.page
    page.goto(page_file.as_uri())
    cards = page.locator(".card")
    assert cards.count() == len(found.results)
    assert cards.first.get_attribute("class") == "card self"
    assert page.evaluate("window.hurt") is None
    assert page.locator("video").count() == 0
    gone = cards.filter(has_text="video not found")
    assert gone.count() == sum(result.video_id == "gone.mp4" for result in found.results) > 0
    for at, result in enumerate(found.results):
        if result.video_id == "gone.mp4":
            continue
        page.locator(".play").nth(at).focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "(start) => { const v = document.querySelector('video');"
            " return v && !v.seeking && v.currentTime > start + 0.05; }",
            arg=result.start_s,
        )
        seen = page.evaluate(
            """async (wait) => { const v = document.querySelector('video'), seen = [];
            const end = performance.now() + wait;
            while (performance.now() < end) {
              await new Promise((done) => v.requestVideoFrameCallback((_, frame) => done(seen.push(frame.mediaTime))));
            }
            return seen; }""",
            1000 * (result.stop_s - result.start_s) + 400 if at == 0 else 200,
        )
        assert result.start_s - 0.041 <= min(seen) < max(seen) < result.stop_s, (result, seen)
        if at == 0:
            assert any(after < before for before, after in pairwise(seen))  # it began again
    page.keyboard.press("Escape")
    assert page.locator("video").count() == 0
    page.keyboard.press("ArrowLeft")
    page.locator(".play").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[...document.querySelectorAll('.play')].indexOf(document.activeElement)") == 1
    assert not watched.complaints
    assert all(url.startswith((page_file.as_uri(), folder.as_uri(), "data:")) for url in watched.requests)
