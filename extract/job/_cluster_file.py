"""The YAML file that says which Dask cluster to start."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml
from distributed.deploy.cluster import Cluster

from extract.errors import MachineError, UsageError
from extract.urls import text_without_secrets

EXAMPLE = """\
class: dask_jobqueue.SLURMCluster
options: {cores: 1, processes: 1, memory: 16GB, walltime: "12:00:00"}
adapt: {minimum: 1, maximum: 8}   # or `workers: 8`
wait_s: 3600                      # how long there may be no worker"""

_WAIT_S = 300.0
_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
_ASSIGNED = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """``kind`` is called with ``options``; then ``workers`` are asked for, or it adapts, or neither."""

    path: Path
    kind: Callable[..., Cluster]
    options: Mapping[str, Any] = field(repr=False)
    workers: int | None
    adapt: Mapping[str, Any] | None
    wait_s: float

    def usage_error(self, problem: str) -> UsageError:
        """``problem`` with the file's name and an example."""
        return _usage_error(self.path, self._without_secrets(problem))

    def machine_error(self, problem: str) -> MachineError:
        """``problem`` with the file's name."""
        return MachineError(f"--cluster {self.path}: {self._without_secrets(problem)}")

    def _without_secrets(self, text: str) -> str:
        for secret in _secrets(self.options):
            text = text.replace(secret, "…")
        return text_without_secrets(text, str(self.path))


def read_cluster_file(path: Path) -> ClusterFile:
    """Read and check ``path``; starts nothing.

    Raises:
        UsageError: it is not as in `EXAMPLE`.
        MachineError: the package of its class is not installed.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        reason = f"not YAML at line {where.line + 1}" if where else getattr(error, "strerror", None) or "not text"
        raise _usage_error(path, f"cannot be read: {reason}") from None  # the error would show the line
    if not isinstance(content, dict):
        raise _usage_error(path, "expected keys and values")
    known = ("class", "options", "workers", "adapt", "wait_s")
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise _usage_error(path, f"unknown key {', '.join(unknown)}; there are {', '.join(known)}")
    if "workers" in content and "adapt" in content:
        raise _usage_error(path, "both `workers` and `adapt`; expected one of them")
    return ClusterFile(
        path,
        _kind(path, content.get("class")),
        _mapping(path, "options", content.get("options", {})),
        _number(path, "workers", content["workers"], int) if "workers" in content else None,
        _mapping(path, "adapt", content["adapt"]) if "adapt" in content else None,
        _number(path, "wait_s", content.get("wait_s", _WAIT_S), (int, float)),
    )


def _kind(path: Path, name: object) -> Callable[..., Cluster]:
    module, _, attribute = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not module:
        raise _usage_error(path, f"class is {name!r}; expected the full name of a Dask cluster class")
    try:
        kind = getattr(import_module(module), attribute, None)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise MachineError(
            f"--cluster {path}: {module} cannot be imported ({error}); `pip install {package}` if it is not installed"
        ) from error
    if isinstance(kind, type) and issubclass(kind, Cluster):
        return kind
    if isinstance(kind, FunctionType) and attribute.endswith("Cluster"):  # distributed.SSHCluster is a function
        return kind
    raise _usage_error(path, f"class {name} is no Dask cluster class")


def _mapping(path: Path, key: str, value: object) -> dict[str, Any]:
    if not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise _usage_error(path, f"{key} is a {type(value).__name__}; expected names and values")
    return value


def _number(path: Path, key: str, value: Any, kind: Any) -> Any:  # noqa: ANN401 - int or float, as ``kind`` says
    if isinstance(value, bool) or not isinstance(value, kind) or value <= 0:
        raise _usage_error(path, f"{key} is {value!r}; expected a number above 0")
    return value


def _usage_error(path: Path, problem: str) -> UsageError:
    return UsageError(f"--cluster {path}: {problem}. For example:\n{EXAMPLE}")


def _secrets(value: object, name: str = "") -> Iterator[str]:
    """Strings in ``value`` that are called like a secret, or are assigned to a name like one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner, name)
    elif isinstance(value, str) and value:
        if _SECRET.search(name):
            yield value
        yield from (assigned for key, assigned in _ASSIGNED.findall(value) if _SECRET.search(key))
