"""Names in AVA's files: of the classes, and of the subsets that names of files tell."""

import re
from pathlib import Path

from extract.errors import InputError
from pipelines.annotations.files import read_text

SUBSETS = {"train": "training", "val": "validation"}


def read_class_list(path: Path) -> dict[int, str]:
    """Number and name of each class of a ``.pbtxt`` file; ``#`` begins a comment.

    Raises:
        InputError: not readable, no class, a class without name or number, or a number twice.
    """
    text = "\n".join(
        re.sub(r'^((?:[^"#]|"[^"]*")*)#.*$', r"\1", line) for line in read_text(path, "AVA's class list").splitlines()
    )
    classes: dict[int, str] = {}
    for block in re.finditer(r"\b(?:item|label)\s*:?\s*\{((?:[^{}\"']|\"[^\"]*\"|'[^']*')*)\}", text):
        line = text.count("\n", 0, block.start()) + 1
        name = re.search(r"\bname\s*:\s*(?:\"([^\"]*)\"|'([^']*)')", block[1])
        number = re.search(r"\b(?:label_)?id\s*:\s*(\d{1,9})\b", block[1])
        if name is None or number is None:
            raise InputError(
                f'{path}, line {line}: a class without {"name" if name is None else "id"}; expected item {{ name: "sit"'
                " id: 11 }. Correct the file"
            )
        if int(number[1]) in classes:
            raise InputError(f"{path}, line {line}: class number {number[1]} is there twice. Correct the file")
        classes[int(number[1])] = name[1] if name[1] is not None else name[2]
    if not classes:
        raise InputError(f'{path}: no class found; expected AVA\'s class list, item {{ name: "sit" id: 11 }} and so on')
    return classes
