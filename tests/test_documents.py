"""The pages say what is true: their commands and Python run, in order, in an empty folder; their links lead on."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLAIN = re.compile(r"untrimmed [^|&;<>$`*\n]+")  # nothing that only a shell understands
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page: Path) -> list[list[str]]:
    """The command of each line of a console block, and of each Python block."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            found.append([sys.executable, "-c", text])
        else:
            found += [["bash", "-c", line] for line in text.splitlines() if line.strip()]
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)], ids=lambda page: page.name)
def test_commands_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    monkeypatch.chdir(tmp_path)
    for step in steps(page):
        if PLAIN.fullmatch(step[-1]):  # in this process, which has torch loaded
            assert run(monkeypatch, *shlex.split(step[-1])[1:]) == 0, f"{step[-1]}\n{capfd.readouterr()}"
            continue
        done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, f"{step[-1]}\n{done.stdout}\n{done.stderr}"


def test_readme_has_a_session() -> None:
    commands = [step[-1].split()[1] for step in steps(ROOT / "README.md") if step[-1].startswith("untrimmed")]
    assert commands == ["synthesize", "scan", "extract", "info", "train", "evaluate", "report"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_readme_names_every_folder_and_command() -> None:
    from pipelines.cli import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"untrimmed {command.name or command.callback.__name__}" in text
    for folder in ("extract", "seqmodels", "pipelines", "tests", "benchmarks", "docs"):
        assert f"`{folder}/`" in text
        assert (ROOT / folder).is_dir()
