"""The recipe: what is in its digest, and how differences are told."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from extract.recipe import Recipe, difference, digest

VALUES: dict[str, Any] = {
    "backbone": "tiny_r2plus1d",
    "weights_sha256": "ab" * 32,
    "layer": "global-mean",
    "feature_width": 256,
    "clip_frames": 16,
    "frame_stride": 1,
    "hop": 8,
    "fps": 10.0,
    "short_side_px": 112,
    "crop_px": 112,
    "resize_kernel": "swscale-bilinear",
    "mean": (0.45, 0.45, 0.45),
    "std": (0.225, 0.225, 0.225),
    "precision": "fp32",
}

CHANGES: dict[str, Any] = {
    "format_version": 2,
    "backbone": "other",
    "weights_sha256": "cd" * 32,
    "layer": "stem",
    "feature_width": 255,
    "clip_frames": 15,
    "frame_stride": 2,
    "hop": 7,
    "fps": "native",
    "short_side_px": 113,
    "crop_px": 111,
    "resize_kernel": "decord",
    "tail": "drop",
    "colour": "bgr",
    "mean": (0.45, 0.45, 0.46),
    "std": (0.225, 0.226, 0.225),
    "precision": "bf16",
    "pooling": "max",
    "flow": "raft",
    "stored_dtype": "float32",
}
FIXED = {"tail", "colour", "pooling", "flow"}  # one value each today, or, of flow, with two channels alone
ROI = {"stride_px": 32, "aligned": True}


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{**VALUES, **changes})


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    values = recipe().as_dict()
    backwards = dict(reversed(values.items()))
    assert list(backwards) != list(values)
    assert digest(backwards) == digest(values)
    assert digest(json.loads(json.dumps(values))) == digest(values)


def test_digest_is_a_known_number() -> None:
    """It is stored on users' disks: a change of the canonical form would orphan every store."""
    assert digest({"b": [1, 0.5], "a": None}) == "fc2ad738648c4fb64405d947fb6208be11f0d20eafd63cf08cdbaa3e0d2d23e8"


def test_every_field_is_in_the_digest() -> None:
    values = recipe().as_dict()
    assert set(values) == set(CHANGES) == set(Recipe.model_fields) - {"roi"}
    digests = {digest({**values, name: changed}) for name, changed in CHANGES.items()}
    assert len(digests | {digest(values)}) == len(CHANGES) + 1


@pytest.mark.parametrize("name", sorted(set(CHANGES) - FIXED))
def test_a_changed_recipe_tells_its_field(name: str) -> None:
    theirs, ours = recipe().as_dict(), recipe(**{name: CHANGES[name]}).as_dict()
    assert digest(theirs) != digest(ours)
    assert difference(theirs, ours) == [f"{name}: {theirs[name]!r} in the store, {ours[name]!r} asked for"]


def test_what_boxes_need_does_not_change_recipes_of_clips() -> None:
    """Digests are on users' disks: this one is from before there were boxes."""
    assert digest(recipe().as_dict()) == "804b0376f7658a8f262849f67c8588c75b1a67a649b3ca4c6f9e6d74c435243e"
    assert "roi" not in recipe().as_dict()


def test_features_of_boxes_are_another_recipe_and_say_how_they_are_pooled() -> None:
    ours = recipe(crop_px=None, pooling="roi", roi=ROI)
    assert Recipe.model_validate(json.loads(json.dumps(ours.as_dict()))) == ours
    assert ours.as_dict()["roi"] == {
        "clip": "nearest-middle",
        "time": "mean",
        "bins": 7,
        "stride_px": 32,
        "aligned": True,
        "space": "max",
    }
    lines = difference(recipe().as_dict(), ours.as_dict())
    assert [line.partition(":")[0] for line in lines] == ["crop_px", "pooling", "roi"]
    digests = {digest(recipe(pooling="roi", roi={**ROI, **change}).as_dict()) for change in ({}, {"aligned": False})}
    assert len(digests | {digest(recipe().as_dict())}) == 3


def test_flow_is_another_recipe_of_two_channels() -> None:
    two = {"mean": (0.5, 0.5), "std": (0.5, 0.5)}
    ours = recipe(**two, flow={"method": "tvl1"})
    assert Recipe.model_validate(json.loads(json.dumps(ours.as_dict()))) == ours
    assert ours.as_dict()["flow"] == {
        "method": "tvl1",
        "bound_px": 20.0,
        "quantisation": "uint8-nearest",
        "weights": None,
    }
    lines = difference(recipe().as_dict(), ours.as_dict())
    assert [line.partition(":")[0] for line in lines] == ["flow", "mean", "std"]
    others = ({"method": "dis"}, {"method": "tvl1", "bound_px": 10.0}, {"method": "raft_large"})
    assert len({digest(recipe(**two, flow=flow).as_dict()) for flow in ({"method": "tvl1"}, *others)}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow": {"method": "tvl1"}}, "mean has 3 values; clips of optical flow need 2"),
        ({"std": (0.1, 0.2)}, "std has 2 values; clips of RGB need 3"),
        ({"flow": {"method": "farneback"}}, "flow.method\n"),
        ({"flow": {"method": "dis", "bound": 3}}, "flow.bound\n"),
    ],
)
def test_channels_and_flow_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_difference_names_what_one_side_lacks() -> None:
    assert difference({"hop": 8}, {"hop": 8}) == []
    assert difference({"b": 1, "hop": 8}, {"hop": 4, "a": "x"}) == [
        "a: 'nothing' in the store, 'x' asked for",
        "b: 1 in the store, 'nothing' asked for",
        "hop: 8 in the store, 4 asked for",
    ]


def test_equal_numbers_make_equal_recipes() -> None:
    assert digest(recipe(fps=10).as_dict()) == digest(recipe(fps=10.0).as_dict())
    assert digest(recipe(mean=[0.45, 0.45, 0.45]).as_dict()) == digest(recipe().as_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hopp": 8}, "hopp\n.*Extra inputs are not permitted"),
        ({"hop": 0}, "hop\n.*greater than or equal to 1"),
        ({"fps": 0.0}, "fps.*\n.*greater than 0"),
        ({"fps": "slow"}, "fps"),
        ({"precision": "int8"}, "precision\n"),
        ({"tail": "drop"}, "tail\n"),
        ({"mean": (0.1, 0.2)}, "mean"),
    ],
)
def test_unknown_fields_and_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_missing_field_is_refused_and_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match=r"hop\n.*Field required"):
        Recipe(**{name: value for name, value in VALUES.items() if name != "hop"})
    with pytest.raises(ValidationError, match="frozen"):
        recipe().hop = 4  # type: ignore[misc]
