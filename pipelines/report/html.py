"""One self-contained page: style, script and data inside, nothing loaded from anywhere, nothing else may run."""

import base64
import hashlib
import html
import json
from typing import Any

MARK = '<meta name="generator" content="untrimmed">'  # of pages that may be written over


def html_page(*, title: str, body: str, style: str, script: str, data: Any) -> str:  # noqa: ANN401 - any JSON
    """An HTML document whose ``script`` finds ``data`` as JSON in the element ``#data``.

    Its content policy lets this very script and style run and no other, and loads pictures from data and videos from
    files, this server and chosen files alone. ``title`` and ``data`` may hold anything: they cannot become markup.

    Raises:
        ValueError: ``data`` holds numbers that JSON does not have (NaN, infinities).
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":  # so that no text in it can end the element
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:;"
        " media-src 'self' file: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{MARK}\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{text}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _hash(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
