"""The page of `untrimmed search`: a card for each moment, with its picture, that plays where it is clicked."""

from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from extract.errors import VideoError
from extract.store import FeatureStore
from extract.video import DecodingProcess, VideoInfo
from pipelines.console import Meter, clock
from pipelines.report.html import html_page
from pipelines.report.media import browser_playable, find_video, relative_link, thumbnails

if TYPE_CHECKING:
    from pipelines.search import Found, Result

_TITLE = "More moments like this"
_WIDTH_PX = 320


def found_page(found: "Found", store: FeatureStore, folder: Path, *, videos: Path | None, quiet: bool = True) -> str:
    """A self-contained page that lies in ``folder``; videos are looked for in ``videos``, then where they were read.

    Videos are linked by relative addresses, not copied; a card says so where its video was not found or where
    browsers do not play it.
    """
    by_video: dict[str, list[Result]] = {}
    for result in found.results:
        by_video.setdefault(result.video_id, []).append(result)
    cards: dict[int, dict[str, Any]] = {}
    with Meter("pictures", quiet=quiet) as meter, DecodingProcess() as process:
        for number, (video_id, results) in enumerate(by_video.items()):
            source = store.catalogue[video_id].provenance.get("uri")
            path = find_video(video_id, source=None if source is None else str(source), folder=videos)
            fields = _fields(path, folder, _probed(path, process))
            middles = [(result.start_s + result.stop_s) / 2 for result in results]
            pictures = (
                [None] * len(results)
                if path is None
                else thumbnails(path, middles, width_px=_WIDTH_PX, process=process)
            )
            for result, picture in zip(results, pictures, strict=True):
                cards[id(result)] = {**result.as_json, **fields, "thumb": picture}
            meter.show((number + 1) / len(by_video), f"{number + 1} of {len(by_video)} videos")
    data = {
        "queries": [f"{q.video_id} · {clock(q.start_s)}–{clock(q.stop_s)}" for q in found.queries],
        "store": PurePosixPath(store.url).name,  # pages are handed on: no path of this machine
        "clips": found.clips,
        "videos": found.videos,
        "seconds": round(found.seconds, 3),
        "results": [cards[id(result)] for result in found.results],
    }
    here = files("pipelines.searching")
    body, style, script = ((here / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return html_page(title=_TITLE, body=body, style=style, script=script, data=data)


def _probed(path: Path | None, process: DecodingProcess) -> VideoInfo | None:
    try:
        return None if path is None else process.probe(path)
    except VideoError:
        return None


def _fields(path: Path | None, folder: Path, info: VideoInfo | None) -> dict[str, Any]:
    if path is None:
        return {"src": None, "note": "video not found; make the page again with --videos DIR"}
    if info is None:
        return {"src": None, "note": "video cannot be read"}
    note = None if browser_playable(info) else f"browsers may refuse to play it ({info.codec})"
    return {"src": relative_link(path, folder), "note": note}
