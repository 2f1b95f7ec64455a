"""URLs as they may be shown and stored: credentials stand before the host and, in signed addresses, in the query."""

import re

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_USER = re.compile(rf"({URL.pattern})[^/?#]*@")
_QUERY = re.compile(r"\?[^#]*")
_IN_TEXT = re.compile(rf"{URL.pattern}[^\s'\"<>]+")


def without_secrets(name: str) -> str:
    """``name``, where it is a URL without its user, password and query; any other name as it is."""
    return _QUERY.sub("", _USER.sub(r"\1", name)) if URL.match(name) else name


def text_without_secrets(text: str, url: str) -> str:
    """``text`` with every URL in it, and ``url`` in its exact spelling, `without_secrets`."""
    text = text.replace(url, without_secrets(url))
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)
