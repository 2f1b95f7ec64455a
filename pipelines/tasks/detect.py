"""Who does what: actions of boxes, second by second.

N boxes of one video, Q of them at annotated seconds, R boxes of a batch, S slots of a bank, D features, C classes.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.boxes import Boxes
from extract.errors import InputError
from pipelines.annotations.ava import Ava, AvaVideo, BoxScores, ava_frame_map, read_ava
from pipelines.banks import bank_of
from pipelines.config import TrainSettings
from pipelines.dataset import Clips, Example, Examples, Shelf, Store, match_ids, matching_notes
from pipelines.notes import shown
from pipelines.tasks.said import Said, SaidBoxes
from pipelines.tasks.task import Task, class_notes, device_of
from pipelines.tracks import ious, link
from seqmodels import DETECTORS, BankHead, detection_loss, probabilities

SAME_PERSON = 0.5  # IoU from which on a stored box is taken for the annotated one
LEAST_SAID = 0.05  # scores below it are not predicted
QUERIES = 256  # boxes that get their scores at once
POSES = frozenset(
    (
        "bend/bow (at the waist)", "crawl", "crouch/kneel", "dance", "fall down", "get up", "jump/leap", "lie/sleep",
        "martial art", "run/jog", "sit", "stand", "swim", "walk",
    )
)  # fmt: skip
"""AVA's classes 1 to 14, of which every person has exactly one (Gu et al., CVPR 2018, section 3.4)."""


class People(NamedTuple):
    """The boxes of one video: ``box`` ``(N, 4)``, ``score`` ``(N,)``; which of them are at annotated seconds, ``rows``
    ``(Q,)``, and what they do, ``actions`` ``(Q, C)`` bool. ``truth`` is the whole annotation, ``bank_s`` the length of
    the window that banks reach over.
    """

    box: NDArray[np.float32]
    score: NDArray[np.float32]
    rows: NDArray[np.int64]
    actions: NDArray[np.bool_]
    truth: AvaVideo
    bank_s: float


class BoxBatch(NamedTuple):
    """What a detection head is given, ``roi`` to ``offset_s``, and ``actions`` ``(R, C)`` bool."""

    roi: Tensor
    bank: Tensor
    mask: Tensor
    offset_s: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> "BoxBatch":
        """The batch on another device."""
        return BoxBatch(*(tensor.to(device) for tensor in self))


class Detect(Task):
    """Actions of the boxes that a store has features of, from AVA's files. ``target``: `People`.

    A stored box learns the actions of the annotated one that it overlaps most, by `SAME_PERSON` or more; without one it
    learns that there is no action. ``map``: AVA's frame mAP at IoU 0.5, in its current official form.
    """

    name = "detect"
    metric = "map"
    heads: ClassVar = DETECTORS
    default = "bank-nonlocal"

    def read(self, path: str | Path) -> Ava:
        """AVA's csv files and class list: see `pipelines.annotations.ava.read_ava`."""
        return read_ava(path)

    def digest(self, path: str | Path) -> str:
        """Of what the files say."""
        found, digest = read_ava(path), hashlib.sha256()
        digest.update(repr((found.classes, found.numbers)).encode())
        for subset, videos in sorted(found.subsets.items()):
            for video_id, video in videos.items():
                digest.update(f"{subset} {video_id}".encode())
                for values in (video.second, video.box, video.action, video.key_s):
                    digest.update(values.tobytes())
        return digest.hexdigest()

    def load(
        self,
        store: Store,
        annotations: Ava,
        *,
        subset: str,
        classes: Sequence[str] | None = None,
        settings: TrainSettings | None = None,
    ) -> Examples:
        """The annotated and stored videos of ``subset``. ``classes``: of a trained head; they must be the same.

        Raises:
            InputError: no such subset, none of its videos is in the store, the store has features of clips, or the
                classes are others.
        """
        if classes is not None and tuple(classes) != annotations.classes:
            raise InputError(
                f"the class list has {shown(annotations.classes)}, the head was trained on {shown(classes)};"
                " expected the same classes. Use the class list of the training"
            )
        videos = annotations.subset(subset)
        matches = match_ids(list(videos), list(store))
        shelf = Shelf(store)
        bank_s = (settings or TrainSettings()).bank_s
        items = [
            Example(name, read, second, _people(clips, second, videos[name], len(annotations.classes), bank_s))
            for name, (clips, second, read) in ((name, shelf.take(stored)) for name, stored in matches.items())
        ]
        named = [name for each in annotations.subsets.values() for name in each]
        missed, total = np.sum([_missed(item.target, item.centre_s) for item in items], axis=0)
        notes = [
            *annotations.notes,
            *matching_notes(list(videos), matches, named, store, subset),
            *(
                [f"{missed} of {total} annotated boxes have no stored box over them: they cannot be found"]
                if missed
                else []
            ),
        ]
        return Examples(tuple(items), annotations.classes, tuple(notes))

    def prepare(self, head: nn.Module, examples: Examples, settings: TrainSettings) -> None:
        """Also tells the head which classes exclude each other."""
        super().prepare(head, examples, settings)
        assert isinstance(head, BankHead)  # noqa: S101 - one of `heads`
        for number, label in enumerate(examples.classes):
            head.exclusive[number] = settings.exclusive == "all" or (settings.exclusive == "poses" and label in POSES)

    def batches(
        self, examples: Examples, settings: TrainSettings, rng: np.random.Generator
    ) -> Iterator[tuple[int, BoxBatch]]:
        """Boxes of all videos in random order, each with a bank of its video."""
        order = rng.permutation(_queries(examples.items))
        for first in range(0, len(order), settings.batch):
            chosen = order[first : first + settings.batch]
            parts = [
                self._batch(examples.items[number], chosen[chosen[:, 0] == number, 1], rng)
                for number in np.unique(chosen[:, 0])
            ]
            yield len(chosen), _stacked(parts)

    def n_batches(self, examples: Examples, settings: TrainSettings) -> int:
        """How many batches an epoch has."""
        return math.ceil(len(_queries(examples.items)) / settings.batch)

    def _batch(self, example: Example, queries: NDArray[np.int64], rng: np.random.Generator | None = None) -> BoxBatch:
        """Of the ``queries``-th annotated boxes of one video."""
        people: People = example.target
        rows, features = people.rows[queries], torch.from_numpy(example.features)
        slots = bank_of(
            example.centre_s if people.bank_s else example.centre_s[:0],
            people.score if people.bank_s else people.score[:0],
            example.centre_s[rows],
            window_s=people.bank_s,
            rng=rng,
        )
        return BoxBatch(
            features[rows],
            features[slots.index],
            torch.from_numpy(slots.mask),
            torch.from_numpy(slots.offset_s),
            torch.from_numpy(people.actions[queries]),
        )

    def loss(self, head: BankHead, batch: BoxBatch, _settings: TrainSettings) -> Tensor:
        """Cross-entropy of classes that exclude each other, binary cross-entropy of the others."""
        logits = head(batch.roi, batch.bank, batch.mask, batch.offset_s)
        return detection_loss(logits, batch.actions, torch.nonzero(head.exclusive)[:, 0])

    @torch.inference_mode()
    def answer(self, head: BankHead, example: Example) -> BoxScores:
        """Probabilities of the classes of all boxes at annotated seconds."""
        people, where = example.target, device_of(head)
        exclusive = torch.nonzero(head.exclusive)[:, 0]
        scores = [np.zeros((0, head.out.out_features), np.float32)]
        for first in range(0, len(people.rows), QUERIES):
            batch = self._batch(example, np.arange(len(people.rows))[first : first + QUERIES]).to(where)
            logits = head(batch.roi, batch.bank, batch.mask, batch.offset_s)
            scores.append(probabilities(logits.float(), exclusive).cpu().numpy())
        return BoxScores(example.centre_s[people.rows], people.box[people.rows], np.concatenate(scores))

    def unanswered(self, clips: Clips, example: Example, settings: TrainSettings, n_classes: int) -> Example:
        """Every stored box is asked about."""
        nothing = AvaVideo(
            np.zeros(0), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64),
            np.unique(example.centre_s), np.zeros(0),
        )  # fmt: skip
        return replace(example, target=_people(clips, example.centre_s, nothing, n_classes, settings.bank_s))

    def said(self, answer: BoxScores, example: Example, _threshold: float) -> Said:
        """Scores of at least `LEAST_SAID` of each box, and whose box it is."""
        people: People = example.target
        track = link(Boxes(answer.second, answer.box, people.score[people.rows]))
        row, label = np.nonzero(answer.score >= LEAST_SAID)
        scores = answer.score[row, label].astype(np.float64)
        return Said(boxes=SaidBoxes(answer.second[row], answer.box[row], label, scores, track[row]))

    def report(self, examples: Examples, answers: Sequence[BoxScores], *, n_trained: int) -> dict[str, Any]:
        """``map`` and each class's average precision."""
        truth: Mapping[str, AvaVideo] = {item.video_id: item.target.truth for item in examples.items}
        predictions = {item.video_id: answer for item, answer in zip(examples.items, answers, strict=True)}
        result = ava_frame_map(truth, predictions, len(examples.classes))
        return {
            "protocol": self.name,
            "metrics": {"map": result.map},
            "chance": {},
            "per_threshold": {},
            "per_class": {label: {"ap": ap} for label, ap in zip(examples.classes, result.ap, strict=True)},
            "notes": [*examples.notes, *class_notes(examples.classes, result.ap, n_trained)],
        }


def _people(clips: object, second: NDArray[np.float64], truth: AvaVideo, n_classes: int, bank_s: float) -> People:
    """The stored boxes of one video, at ``second`` ``(N,)``, beside what is annotated.

    Raises:
        InputError: the features are not of boxes.
    """
    box, score = getattr(clips, "box", None), getattr(clips, "box_score", None)
    if box is None or score is None:
        raise InputError(
            "the store has features of whole clips; expected features of boxes. Extract with --boxes FILE, which"
            " `untrimmed detect-people` can make"
        )
    rows = np.flatnonzero(np.isin(_micro(second), _micro(truth.key_s)))
    return People(box, score, rows, _actions(box[rows], second[rows], truth, n_classes), truth, bank_s)


def _actions(
    box: NDArray[np.float32], second: NDArray[np.float64], truth: AvaVideo, n_classes: int
) -> NDArray[np.bool_]:
    """What the annotated person does that each box overlaps most: ``(Q, 4)``, ``(Q,)`` -> ``(Q, C)``."""
    actions = np.zeros((len(box), n_classes), np.bool_)
    for at in np.unique(_micro(second)):
        rows, true = np.flatnonzero(_micro(second) == at), np.flatnonzero(_micro(truth.second) == at)
        if len(true) == 0:
            continue
        overlaps = ious(box[rows], truth.box[true])
        best = overlaps.max(axis=1)
        query, of = np.nonzero((overlaps == best[:, None]) & (best[:, None] >= SAME_PERSON))
        actions[rows[query], truth.action[true[of]]] = True
    return actions


def _missed(people: People, second: NDArray[np.float64]) -> tuple[int, int]:
    """Annotated persons that no stored box is over, and all of them."""
    where = np.unique(np.column_stack((people.truth.second, people.truth.box)), axis=0)
    missed = 0
    for at in np.unique(where[:, 0]):
        true, rows = where[where[:, 0] == at, 1:], _micro(second) == _micro(at)
        missed += int((ious(true.astype(np.float32), people.box[rows]).max(axis=1, initial=0) < SAME_PERSON).sum())
    return missed, len(where)


def _queries(items: Sequence[Example]) -> NDArray[np.int64]:
    """Number of the video and of the query, of all annotated boxes ``(…, 2)``."""
    counts = [len(item.target.rows) for item in items]
    return np.column_stack((np.repeat(np.arange(len(items)), counts), np.concatenate([*map(np.arange, counts)])))


def _stacked(parts: Sequence[BoxBatch]) -> BoxBatch:
    """Batches of several videos as one, with banks padded to the fullest."""
    slots = max(part.mask.shape[1] for part in parts)

    def padded(values: Tensor) -> Tensor:
        missing = slots - values.shape[1]
        return nn.functional.pad(values, (0, 0, 0, missing) if values.ndim == 3 else (0, missing))

    columns = [
        [part.roi for part in parts],
        [padded(part.bank) for part in parts],
        [padded(part.mask) for part in parts],
        [padded(part.offset_s) for part in parts],
        [part.actions for part in parts],
    ]
    return BoxBatch(*map(torch.cat, columns))


def _micro(second: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole microseconds: equal for one key second, however it was written."""
    return np.rint(np.asarray(second) * 1e6).astype(np.int64)
