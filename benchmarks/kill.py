"""Extractions whose processes are killed at random moments, run again, and compared with an undisturbed one.

    python benchmarks/kill.py [--runs 100] [--seed 0] [--cable N] [--folder F]    # writes benchmarks/results/kill.json

Every run has a new store, of which a process reads random videos and the published arrays all the time. It fails where
the store is not equal to the undisturbed one at the end, to the last bit; where the reader saw what is not true; where
the job ended in another way than it must; and where a process is left over. Half of the runs begin with a store that
has a published video. ``--cable`` adds runs on network namespaces as machines, where a worker's cable is pulled; that
needs root. The stores of runs that fail are kept in the folder.
"""

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import save, table

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # what kills is the tests' own

import killing
from killing import Command, Moment, Outcome, Outside, Truth
from real.dask_parts import start_scheduler, start_worker
from real.netns import HURRIED, Machine, machines

SHARES = {  # of 100 runs: where, who is killed
    ("in this process", "client"): 20,
    ("in this process", "client and children"): 12,
    ("in this process", "decoder"): 16,
    ("1 worker", "client"): 2,
    ("1 worker", "decoder"): 2,
    ("1 worker", "worker"): 4,
    ("2 workers", "client"): 2,
    ("2 workers", "client and children"): 2,
    ("2 workers", "decoder"): 2,
    ("2 workers", "worker"): 6,
    ("dask scheduler", "client"): 3,
    ("dask scheduler", "decoder"): 3,
    ("dask scheduler", "worker"): 7,
    ("dask scheduler", "nanny"): 5,
    ("dask scheduler", "nanny and worker"): 6,
    ("dask scheduler", "scheduler"): 8,
}
WORKERS = {"in this process": 0, "1 worker": 1, "2 workers": 2, "dask scheduler": 0}
SEE_PUBLICATION = ("client", "client and children", "scheduler")  # the others have nothing to do by then
CABLE = ("network namespaces", "cable")


@dataclass(frozen=True)
class Run:
    """One line of the results. ``wrong`` is empty where all was as it must be."""

    where: str
    victim: str
    moment: str
    outcome: Outcome | None
    wrong: str


class Bench:
    """Archive, undisturbed stores and their wall seconds, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = killing.make_archive(folder / "archive")
        self.outside = Outside(folder)
        self.undisturbed_s: dict[str, float] = {}
        self.begun = folder / "begun.zarr"
        Command(self.archive / "short0.mp4", self.begun).finish(code=0)
        self.truth = self._undisturbed()

    def _undisturbed(self) -> Truth:
        """Every place gives the same store, which is that of a single unit."""
        stores = {where: self.folder / f"{where.replace(' ', '-')}.zarr" for where in WORKERS}
        for where, out in stores.items():
            for _ in range(2 if where == "dask scheduler" else 1):  # the workers import only once
                shutil.rmtree(out, ignore_errors=True)
                self.undisturbed_s[where] = self.command(where, out).finish()
        single = self.folder / "single.zarr"
        Command(self.archive, single, single=True).finish()
        truth = Truth(single)
        for out in stores.values():
            truth.check(out)
        return truth

    def command(self, where: str, out: Path) -> Command:
        """The job at this place."""
        scheduler = self.outside.mend() if where == "dask scheduler" else None
        return Command(self.archive, out, WORKERS[where], scheduler)

    def run(self, number: int, where: str, victim: str, rng: random.Random) -> Run:
        """Strike once. What went wrong is in the result; its store stays."""
        out = self.folder / f"run{number}.zarr"
        begun, cable = rng.random() < 0.5, (where, victim) == CABLE
        if begun:
            shutil.copytree(self.begun, out)
        undisturbed_s = self.undisturbed_s["dask scheduler" if cable else where]
        moment = killing.random_moment(rng, undisturbed_s, publication=not begun and victim in SEE_PUBLICATION)
        outcome, wrong = None, ""
        try:
            if cable:
                outcome = pull_cable(Command(self.archive, out), moment, self.truth)
            else:
                command = self.command(where, out)
                outcome = killing.strike(command, victim, moment, rng, truth=self.truth, outside=self._outside(where))
        except (AssertionError, OSError, TimeoutError) as error:
            wrong = f"{type(error).__name__}: {error}"
        else:
            shutil.rmtree(out)
        return Run(where, victim, moment.kind, outcome, wrong)

    def _outside(self, where: str) -> Outside | None:
        return self.outside if where == "dask scheduler" else None


def pull_cable(command: Command, moment: Moment, truth: Truth) -> Outcome:
    """Cut off one of two workers' machines. AssertionError as of `killing.strike`."""
    folder = command.out.with_suffix(".dask")
    folder.mkdir()
    with machines(3, folder / "machines.log") as (head, near, far), killing.reader(command.out, truth) as seen:
        scheduler = start_scheduler(folder, host=head.address, start=head.popen, environment=HURRIED)
        for name, machine in (("near", near), ("far", far)):
            start_worker(scheduler, name, host=machine.address, start=machine.popen, environment=HURRIED)
        arguments = Command(command.archive, command.out, scheduler=scheduler.address).arguments()
        began = time.monotonic()
        job = on_machine(head, arguments, command.log)
        moment.wait(command.out, lambda: job.poll() is None)
        struck = job.poll() is None
        far.pull_cable()
        code = job.wait(killing.ENDS_S)
        ended_s = time.monotonic() - began
        killing.check_end(command, code, "worker")
        kept_clips, crashed = killing.state(command.out)
        began = time.monotonic()
        code = on_machine(head, arguments, command.log).wait(killing.ENDS_S)
        assert code == killing.FINISHED, command.log.read_text()
        rerun_s = time.monotonic() - began
    killing.check_seen(seen)
    truth.check(command.out)
    return Outcome(struck, job.returncode, ended_s, kept_clips, crashed, rerun_s, seen)


def on_machine(machine: Machine, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """The command line in small units, in an interpreter of its own."""
    return machine.popen([sys.executable, killing.__file__, log, *arguments], log, HURRIED)


def deck(runs: int, cables: int, rng: random.Random) -> list[tuple[str, str]]:
    """Places and victims, shuffled."""
    cards: list[tuple[str, str]] = []
    while len(cards) < runs:
        more = [card for card, count in SHARES.items() for _ in range(count)]
        rng.shuffle(more)
        cards += more
    return [*cards[:runs], *[CABLE] * cables]


def all_runs(bench: Bench, cards: list[tuple[str, str]], seed: int) -> Iterator[Run]:
    """One struck run for each card; where the victim was gone at the moment, its card is taken again at the end."""
    began, number, wanted = time.monotonic(), 0, len(cards)
    while cards:
        where, victim = cards.pop(0)
        run = bench.run(number, where, victim, random.Random(f"{seed} {number}"))
        number += 1
        if run.outcome is not None and not run.outcome.struck:
            cards.append((where, victim))
        done = wanted - len(cards)
        left_s = (time.monotonic() - began) / max(1, done) * len(cards)
        shown = f"{done}/{wanted} {where}, {victim}, {run.moment}: {told(run)}; {left_s / 60:.0f} min left"
        print(shown, flush=True)
        yield run


def told(run: Run) -> str:
    if run.outcome is None:
        return f"WRONG {run.wrong}"
    o = run.outcome
    return (
        f"{'struck' if o.struck else 'too late'}, exit {o.code} after {o.ended_s:.1f} s with {o.kept_clips} clips, "
        f"rerun {o.rerun_s:.1f} s, {o.seen.videos} + {o.seen.published} readings"
    )


def result(bench: Bench, runs: list[Run], seed: int) -> dict[str, Any]:
    """All that is saved."""
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    return {
        "seed": seed,
        "runs": len(runs),
        "wrong": [asdict(run) for run in runs if run.wrong],
        "struck": sum(outcome.struck for outcome in outcomes),
        "videos": len(bench.truth.records),
        "clips": bench.truth.clips,
        "undisturbed_s": {where: round(seconds, 1) for where, seconds in bench.undisturbed_s.items()},
        "readings": {
            "videos": sum(outcome.seen.videos for outcome in outcomes),
            "published": sum(outcome.seen.published for outcome in outcomes),
            "wrong": sum(len(outcome.seen.wrong) for outcome in outcomes),
        },
        "by_victim": [group(bench, runs, *card) for card in [*SHARES, CABLE]],
        "by_moment": {
            kind: {"runs": len(some), "struck": sum(run.outcome is not None and run.outcome.struck for run in some)}
            for kind in ("any time", "log entry", "segment", "publication")
            for some in [[run for run in runs if run.moment == kind]]
        },
    }


def group(bench: Bench, runs: list[Run], where: str, victim: str) -> dict[str, Any]:
    """Of one place and victim; medians of those that were struck. ``kept``: share of the clips when the job ended."""
    mine = [run for run in runs if (run.where, run.victim) == (where, victim)]
    struck = [run.outcome for run in mine if run.outcome is not None and run.outcome.struck]
    return {
        "where": where,
        "victim": victim,
        "runs": len(mine),
        "struck": len(struck),
        "wrong": sum(bool(run.wrong) for run in mine),
        "went_on": sum(outcome.code == killing.FINISHED for outcome in struck),
        "ended_with_a_message": sum(outcome.code == 3 for outcome in struck),
        "videos_failed": sum(outcome.crashed for outcome in struck),
        "kept": median([outcome.kept_clips / bench.truth.clips for outcome in struck]),
        "rerun_s": median([outcome.rerun_s for outcome in struck]),
    }


def median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def lines(figures: dict[str, Any]) -> str:
    """The table of docs/kill.md."""
    columns = ["struck", "went_on", "ended_with_a_message", "wrong", "videos_failed", "kept", "rerun_s"]
    rows = [[str(row[key]) for key in ["where", "victim", *columns]] for row in figures["by_victim"] if row["runs"]]
    header = ["where", "killed", "times", "went on", "said why", "wrong", "videos failed", "kept", "rerun, s"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cable", type=int, default=0, metavar="N")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir=chosen.folder))
    bench = Bench(folder)
    with closing(bench.outside):
        cards = deck(chosen.runs, chosen.cable, random.Random(chosen.seed))
        runs: list[Run] = []
        for run in all_runs(bench, cards, chosen.seed):
            runs.append(run)
            figures = result(bench, runs, chosen.seed)
            save("kill", "extractions struck at random moments, run again, beside an undisturbed one", figures)
    print(lines(figures))
    print({key: value for key, value in figures.items() if key != "by_victim"})
    if figures["wrong"]:
        sys.exit(f"{len(figures['wrong'])} of {len(runs)} went wrong; see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
