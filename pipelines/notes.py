"""Names in messages: the first few, and how many more."""

from collections.abc import Iterable

_SHOWN = 5
_LONG = 160  # characters


def shown(values: Iterable[str]) -> str:
    """The first few of ``values``, and how many more there are; "none" where there is none."""
    kept = [value if len(value) <= _LONG else f"{value[:_LONG]}…" for value in values]
    more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
    return (", ".join(kept[:_SHOWN]) + more) or "none"


def noted(values: Iterable[str], what: str) -> list[str]:
    """A note of how many ``values`` are ``what``, and which; nothing where there is none."""
    kept = list(values)
    return [f"{len(kept)} {what}: {shown(kept)}"] if kept else []
