"""Real disks that fill up, become read-only, or forbid what they allowed, in the middle of a job."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from real.archive import Archive, videos_done

from extract.errors import MachineError
from pipelines import planning
from pipelines.extraction import Options, Progress, run_extraction


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def remount(mode: str) -> Callable[[Path], None]:
    def act(disk: Path) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)

    return act


ACCIDENTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], str]] = {
    "full": (fill, lambda disk: (disk / "filler").unlink(), r"the disk is full .*Everything committed is safe"),
    "read-only": (remount("ro"), remount("rw"), r"Read-only file system\. Make the folder accessible"),
    "forbidden": (
        lambda _: os.seteuid(65534),
        lambda _: os.seteuid(0),
        "Permission denied. Make the folder accessible",
    ),
}


@pytest.mark.parametrize(
    "accident", [name if name == "full" else pytest.param(name, marks=pytest.mark.more) for name in ACCIDENTS]
)
def test_a_job_goes_on_when_its_disk_is_good_again(
    accident: str, disk: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen, mend, message = ACCIDENTS[accident]
    monkeypatch.setattr(planning, "UNIT_S", 0.2)
    out, begun = disk / "f.zarr", []

    def after_the_first(progress: Progress) -> None:
        if progress.videos_done and not begun:
            begun.append(progress.videos_done)
            happen(disk)

    try:
        with pytest.raises(MachineError, match=message):
            run_extraction(archive.folder, out, options=Options(), on_progress=after_the_first)
    finally:
        mend(disk)
    assert begun[0] <= videos_done(out) < len(list(archive.folder.glob("*/*")))
    _, summary = run_extraction(archive.folder, out, options=Options())
    assert summary.already_done >= begun[0]
    archive.check(out)
