"""A real SLURM on one machine: slurmctld and slurmd in the foreground, every file below one folder, no systemd.

It needs root: slurmd starts jobs for their users, and all of them get process ids of their own. Authentication is
off, so its ports are for loopback alone.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from real.processes import BOX, free_port, kill_box, start, wait_until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CPUS = 4  # jobs at one time, whatever the machine has

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
KillWait=1
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True)
class Slurm:
    """A running SLURM; ``environment`` is what its client programs (sbatch, dask-jobqueue) need."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """Run a client program of SLURM; what it printed.

        Raises:
            CalledProcessError: it failed.
        """
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=20).stdout

    def running(self) -> list[str]:
        """Ids of the jobs that run."""
        return self.call("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Start SLURM in ``folder``, which must exist; at the end its daemons and jobs are killed."""
    cluster = Slurm(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = _CONF.format(
        host=socket.gethostname().split(".")[0],
        controller_port=free_port(),
        node_port=free_port(),
        folder=folder,
        cpus=CPUS,
    )
    (folder / "slurm.conf").write_text(conf)
    daemons = "slurmctld -D & slurmd -D & wait"
    box = start([*BOX, "sh", "-c", daemons], folder / "daemons.log", cluster.environment)
    try:
        wait_until(lambda: _idle(cluster), f"SLURM in {folder} (see its daemons.log)")
        yield cluster
    finally:
        kill_box(box)


def _idle(cluster: Slurm) -> bool:
    try:
        return cluster.call("sinfo", "--noheader", "--format=%T").strip() == "idle"
    except subprocess.CalledProcessError:  # the controller does not listen yet
        return False
