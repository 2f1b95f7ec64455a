"""Running the command line in this process."""

import sys

import pytest

from pipelines import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`cli.main` in this process; its exit code. Output goes to the captured stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["untrimmed", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)
