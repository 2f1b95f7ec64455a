"""sshd on 127.0.0.1 with keys made for it. It needs root."""

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from real.processes import BOX, accepts, free_port, kill_box, start, wait_until

PROGRAMS = ("sshd", "ssh-keygen")

_CONF = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
AuthenticationMethods publickey
PermitRootLogin yes
StrictModes no
UsePAM no
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A running sshd; whoever has the key file may log in as the user of the tests."""

    port: int
    key: Path

    @property
    def connect_options(self) -> dict[str, object]:
        """What asyncssh needs for a connection."""
        return {
            "port": self.port,
            "username": getpass.getuser(),
            "client_keys": [str(self.key)],
            "known_hosts": None,
            "config": None,
        }


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Start sshd with its files in ``folder``, which must exist; at the end it is killed with all that it started."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = free_port()
    (folder / "sshd_config").write_text(_CONF.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd demands it, compiled in
    program = shutil.which("sshd")  # it starts itself again, and wants its whole path
    daemon = start([*BOX, program, "-D", "-e", "-f", folder / "sshd_config"], folder / "sshd.log")
    try:
        wait_until(lambda: accepts(port), f"sshd on port {port} (see {folder}/sshd.log)")
        yield Sshd(port, folder / "user")
    finally:
        kill_box(daemon)
