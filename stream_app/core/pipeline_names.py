"""Pipeline names: the pipeline that was probably meant by a key that no destination takes. Pure.

A look-up costs the same with one pipeline as with ten thousand: the edits of the key are looked up
among the pipelines, not every pipeline compared with the key.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from stream_app.text import printable

KEY_LENGTH_MAX: Final = 64
"""Characters of a key for which a pipeline is sought: a longer one has too many edits."""
SHOWN_LENGTH_MAX: Final = 100
"""Characters of a key in texts."""
ALPHABET_MAX: Final = 64
"""Characters that may be missing in a key, or wrong: the most frequent ones of the pipelines."""
QUOTES: Final = "\"'` \t\r\n\0"
"""Characters around a key that belong to its encoding: a producer of JSON quotes it."""


class PipelineNames:
    """Names of all pipelines, to find the one that a key resembles.

    Args:
        pipelines: The pipelines of the destinations; None: of one that takes every event.
    """

    def __init__(self, pipelines: Iterable[str | None]) -> None:
        names = dict.fromkeys(it for it in pipelines if it is not None)
        self._by_folded = {_folded(it): it for it in reversed(names)}
        letters = Counter("".join(self._by_folded))
        self._alphabet = "".join(it for it, _ in letters.most_common(ALPHABET_MAX))

    def nearest(self, key: bytes | None) -> str | None:
        """Return the pipeline that differs from a key by its case, by quotes or by one edit.

        An edit is a character too many, too few or another one, or two that are exchanged. None: no
        pipeline is so near, or the record has no key.
        """
        if key is None or len(key) > 4 * KEY_LENGTH_MAX:  # UTF-8 has at most 4 bytes a character.
            return None
        folded = _folded(key.decode(errors="replace"))
        if not folded or len(folded) > KEY_LENGTH_MAX:
            return None
        found = (self._by_folded.get(it) for it in _edits(folded, self._alphabet))
        return next((it for it in found if it is not None), None)

    def advice(self, key: bytes | None) -> str:
        """Return what an operator should know about a key that no destination takes."""
        if key is None:
            return "only a destination without a pipeline takes records without a key"
        near = self.nearest(key)
        return "no pipeline is like it" if near is None else f"nearest pipeline: {shown(near)}"

    def unmatched(self, key: bytes | None) -> str:
        """Return that no destination takes a key, with the pipeline that it resembles."""
        return f"no destination takes the key {shown(key)} ({self.advice(key)})"


def shown(key: str | bytes | None) -> str:
    """Return a key as texts name it: printable, quoted and cut."""
    if key is None:
        return "none"
    text = key if isinstance(key, str) else key[: 4 * SHOWN_LENGTH_MAX].decode(errors="replace")
    more = "…" if len(text) > SHOWN_LENGTH_MAX else ""
    return f"'{printable(text[:SHOWN_LENGTH_MAX])}{more}'"


def _folded(text: str) -> str:
    return text.strip(QUOTES).casefold()


def _edits(text: str, alphabet: str) -> Iterator[str]:
    """Yield a text, and each text that one edit makes of it, the likeliest edits first."""
    yield text
    halves = [(text[:it], text[it:]) for it in range(len(text) + 1)]
    for left, right in halves[:-2]:
        yield left + right[1] + right[0] + right[2:]
    for left, right in halves[:-1]:
        yield left + right[1:]
    for left, right in halves:
        for letter in alphabet:
            yield left + letter + right
    for left, right in halves[:-1]:
        for letter in alphabet:
            yield left + letter + right[1:]
