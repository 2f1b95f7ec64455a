"""Broken files by the hundred: each is read with flags where it is wrong, or refused by reason; none harms the caller.

UNTRIMMED_FUZZ=2000 sets the number of files. What counts as wrong is said in fuzzing.py.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from fuzzing import Child, Outcome, intact
from mutations import BASES, mutated

N_FILES = int(os.environ.get("UNTRIMMED_FUZZ", "200"))
FIRST = int(os.environ.get("UNTRIMMED_FUZZ_FIRST", "0"))
LIMIT_S = 20.0
LIMIT_MB = 1000.0
LIES = ("spoilt", "misplaced", "unordered", "noise")


def failure(outcome: Outcome) -> str | None:
    """What is wrong with an outcome, or None."""
    if outcome.ending.startswith(("hang", "crash", "foreign")):
        return outcome.ending
    if outcome.peak_mb > LIMIT_MB:
        return f"took {outcome.peak_mb:.0f} MB"
    if any(outcome.verdicts[lie] for lie in LIES):
        return f"{dict(outcome.verdicts)} {outcome.notes[:3]}"
    return None


def test_broken_files_never_lie(tmp_path: Path) -> None:
    files = {name: make(tmp_path / name) for name, make in BASES.items()}
    data = {name: path.read_bytes() for name, path in files.items()}
    bases = {name: intact(path) for name, path in files.items()}
    child = Child(tmp_path, bases)
    failures, endings, verdicts = [], Counter[str](), Counter[str]()
    for seed in range(FIRST, FIRST + N_FILES):
        name, mutation, others, broken = mutated(seed, data)
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(broken)
        outcome = child.read(path, [name, *others], LIMIT_S)
        path.unlink()
        endings[outcome.ending] += 1
        verdicts += outcome.verdicts
        if (what := failure(outcome)) is not None:
            failures.append(f"seed {seed}, {mutation} in {name}: {what}")
    child.close()
    print(dict(endings), dict(verdicts))
    assert not failures, "\n".join(failures)
    assert endings["read"] > N_FILES / 2
    assert verdicts["silent"] < verdicts["right"] / 20


@pytest.mark.parametrize("name", BASES)
def test_intact_files_are_right(tmp_path: Path, name: str) -> None:
    found = intact(BASES[name](tmp_path / name))
    assert [row.index for row in found.rows] == list(range(60))
    assert not any(row.damaged for row in found.rows)
