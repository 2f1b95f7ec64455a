"""The official figures, for anybody's predictions: protocols by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from extract.errors import UsageError
from pipelines.scoring.boxes import ava, ava_2018, ava_2019
from pipelines.scoring.frames import segmental
from pipelines.scoring.multilabel import charades, charades_localize, gap, topk
from pipelines.scoring.scored import Options, Scored, refuse
from pipelines.scoring.temporal import activitynet, activitynet_classification, activitynet_proposals, thumos14
from pipelines.scoring.tubes import video_map
from pipelines.scoring.uncertainty import DRAWN, draws, interval, paired

__all__ = ["PROTOCOLS", "Options", "proposals_of", "score"]

PROTOCOLS: dict[str, Callable[[Path, Path, Options], Scored]] = {
    "activitynet": activitynet,
    "activitynet-proposals": activitynet_proposals,
    "activitynet-classification": activitynet_classification,
    "thumos14": thumos14,
    "ava": ava,
    "ava-2019": ava_2019,
    "ava-2018": ava_2018,
    "charades": charades,
    "charades-localize": charades_localize,
    "segmental": segmental,
    "topk": topk,
    "gap": gap,
    "video-map": video_map,
}


_AVA = ("ava", "ava-2019", "ava-2018")
_SEGMENTS = ("activitynet", "activitynet-proposals", "activitynet-classification", "thumos14")
_USED_BY = {
    "subset": _SEGMENTS,
    "labels": (*_SEGMENTS, *_AVA),
    "exclude": _AVA,
    "blocked": _SEGMENTS,
    "max_proposals": ("activitynet-proposals",),
    "kit": ("thumos14",),
    "distinct": _SEGMENTS,
    "views": ("topk",),
    "background": ("segmental",),
    "inclusive": ("video-map",),
}


def proposals_of(text: str) -> float | None:
    """`Options.max_proposals` of what the user typed: a number above 0, or "all".

    Raises:
        UsageError: neither.
    """
    if text == "all":
        return None
    try:
        count = float(text)
    except ValueError:
        count = 0.0
    if not 0 < count < float("inf"):
        raise UsageError(f"--max-proposals is {text!r}; expected a number above 0, or all")
    return count


def score(
    protocol: str,
    truth: str | Path,
    predictions: str | Path,
    *,
    options: Options | None = None,
    strict: bool = False,
    bootstrap: int = 0,
    against: str | Path | None = None,
) -> dict[str, Any]:
    """The figures of a protocol, by its official rules; see the function of each in `PROTOCOLS` for these.

    Equal scores: the first in the file goes first; where that matters, ``ties`` holds the range that other orders
    reach. Rows that cannot be scored, and likely mistakes, are counted in ``notes``.

    Args:
        protocol: one of `PROTOCOLS`.
        truth: file or folder.
        predictions: file or folder.
        options: what the protocol can be told.
        strict: take trouble for an error.
        bootstrap: so many resamples of the videos give ``interval``, 95 % of the headline.
        against: other predictions, which are compared on the same resamples: ``against``.

    Returns:
        ``protocol``, ``metrics``, ``per_threshold``, ``per_class``, ``notes``; and ``ties``, ``interval``, ``against``
        and the protocol's own details where there are such.

    Raises:
        UsageError: no such protocol, or an option that makes no sense.
        InputError: a file cannot be read or scored; or there is trouble, and it is ``strict``.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    run, chosen = PROTOCOLS[protocol], options or Options()
    scored = run(Path(truth), Path(predictions), chosen)
    if strict:
        refuse(scored.trouble)
    result = scored.report(protocol)
    plain = Options()
    idle = [
        name for name, of in _USED_BY.items() if protocol not in of and getattr(chosen, name) != getattr(plain, name)
    ]
    result["notes"] += [f"--{name.replace('_', '-')} means nothing to {protocol}, and is not used" for name in idle]
    count = bootstrap or (DRAWN if against is not None else 0)
    if count and scored.videos:
        weights = draws(len(scored.videos), count)
        result["interval"] = interval(scored, weights)
        if against is not None:
            other = run(Path(truth), Path(against), chosen)
            if strict:
                refuse(other.trouble)
            result["against"] = {"predictions": str(against), **paired(scored, other, weights)}
            result["notes"] += [note for note in other.trouble if note not in scored.trouble]
    return result
