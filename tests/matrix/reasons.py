"""From the message of an error to the word that a cell says."""

from __future__ import annotations

import re


class Says(Exception):
    """A cell that says a word in place of "yes".

    Args:
        word: What the cell says.
        why: The whole reason.
    """

    def __init__(self, word: str, why: str) -> None:
        super().__init__(why)
        self.word = word


WORDS = [
    (r"Received: model=(\w+) in layer", r"\1"),
    (r"(?:Flex|Custom) ops: (\w+)", r"\1"),
    (r"precisions? other than single|single precision", "precision"),
]
"""Messages of refusals, and the word for each: mostly the operation that a format lacks."""


def word_of(error: BaseException) -> str:
    """Return a word for what went wrong: an operator, a known limit, or the kind of the error."""
    if isinstance(error, Says):
        return error.word
    return word_of_text(f"{type(error).__name__}: {error}")


def word_of_text(text: str) -> str:
    """Return a word for an error, of which the kind and the message are given."""
    for pattern, word in WORDS:
        found = re.search(pattern, text)
        if found is not None:
            return found.expand(word)
    return text.split(":")[0]


def reason(error: BaseException) -> str:
    """Return the message on one line."""
    text = " ".join(str(error).split())
    return text[:400] if isinstance(error, Says) else f"{type(error).__name__}: {text}"[:400]
