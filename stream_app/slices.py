"""The fast path: plain paths and object literals of plain paths, cut out of the record's own bytes.

`$event.body`, `$event.a["x-y"]`, `{ id: $event.id, "user": $event.body.user }`: msgspec looks for
just these keys and leaves their values as they are written, some 0.5 us a kilobyte. What it finds
counts only if each path leads to a value; all else is the engine's to decide.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter, contains
from typing import Any, Final

import msgspec

PAYLOAD_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one line; a larger payload fails its event."""
Cut = Callable[[list[Any]], list[bytes]]
"""Values to lines, if each has one; raises one of `NOT_EACH_LINE` otherwise."""


class TooLargeError(Exception):
    """A line is larger than is delivered."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self.line = line


NOT_EACH_LINE: Final = (
    msgspec.MsgspecError,  # no JSON, or a path finds no value
    TypeError,  # None instead of a value
    UnicodeDecodeError,
    RecursionError,
    TooLargeError,
)
"""What is raised when a value has no line of its own."""
_Path = tuple[str, ...]

_NEWLINE, _RETURN = b"\n\r"
"""As numbers: to look for bytes in bytes, Python first makes an exception and drops it."""
_PATH_LENGTH_MAX: Final = 32
_FIELDS_MAX: Final = 256
"""Longer paths and larger objects are left to the engine."""

# Strings with a backslash are left to the engine, and so are comments and white space beyond ASCII.
# White space is possessive (`*+`): giving it back never helps, and costs quadratic time.
_S = r"[ \t\r\n]*+"
_STRING = r"""(?:"[^"\\\r\n]*"|'[^'\\\r\n]*')"""
_NAME = r"[A-Za-z_$][A-Za-z0-9_$]*+"
_STEP = rf"{_S}(?:\?\.|\.){_S}{_NAME}|{_S}(?:\?\.{_S})?\[{_S}{_STRING}{_S}\]"
_PATH = rf"(?:\$event|event)(?![A-Za-z0-9_$])(?:{_STEP})*+"
_FIELD = rf"{_S}({_NAME}|{_STRING}){_S}:{_S}({_PATH}){_S}"
_PATH_TEXT: Final = re.compile(_PATH)
_OBJECT_TEXT: Final = re.compile(rf"\{{{_FIELD}(?:,{_FIELD})*+(?:,{_S})?\}}")
_FIELD_TEXT: Final = re.compile(_FIELD)
_STEP_KEY: Final = re.compile(rf"({_STRING})|\.{_S}({_NAME})")
_INTEGER_KEY: Final = re.compile(r"[0-9]+")


def compile_slices(text: str) -> Cut | None:
    """Return what cuts the lines of an expression that the engine accepts, or None."""
    text = text.strip(" \t\r\n")
    if _PATH_TEXT.fullmatch(text):
        return _cutter([_keys(text)], None)
    if _OBJECT_TEXT.fullmatch(text) is None:
        return None
    names: list[str] = []
    paths: list[_Path] = []
    for match in _FIELD_TEXT.finditer(text, 1):
        name, path = match.groups()
        names.append(name[1:-1] if name[0] in "\"'" else name)
        paths.append(_keys(path))
    if (
        len(names) > _FIELDS_MAX
        or len(set(names)) < len(names)  # The last one wins, in the first one's place.
        or "__proto__" in names  # Sets the prototype instead.
        or any(_INTEGER_KEY.fullmatch(name) for name in names)  # JavaScript moves these ahead.
    ):
        return None
    template = ",".join(
        msgspec.json.encode(name).decode().replace("%", "%%") + ":%b" for name in names
    )
    return _cutter(paths, f"{{{template}}}".encode())


def _keys(path: str) -> _Path:
    return tuple(match[1][1:-1] if match[1] else match[2] for match in _STEP_KEY.finditer(path, 5))


def _cutter(paths: list[_Path], template: bytes | None) -> Cut | None:
    shape = _Shape()
    if not all(shape.add(path) for path in paths):
        return None
    try:
        decode: Callable[[Any], Any] = msgspec.json.Decoder(shape.type()).decode
    except ValueError:
        return None  # A key that msgspec does not take, such as one with a control character.
    takes_all = template is None and () in paths
    pick = shape.picker(paths)

    def cut(values: list[Any]) -> list[bytes]:
        # Nearly all of this runs in C: a few steps of Python for each value would cost as much as
        # to decode it.
        found = list(map(decode, values))
        if takes_all:
            whole = list(map(len, found)) == list(map(len, values))  # no blanks around
            lines = values if whole else list(map(bytes, found))
        elif template is None:
            lines = list(map(bytes, map(pick, found)))
        else:
            lines = list(map(template.__mod__, map(pick, found)))
        if not all(map(bytes.isascii, values)):
            for value in values:
                value.decode()  # msgspec does not look at the bytes of what it slices.
        if any(any(map(contains, lines, repeat(it))) for it in (_NEWLINE, _RETURN)):
            lines = [
                msgspec.json.format(it, indent=-1) if _NEWLINE in it or _RETURN in it else it
                for it in lines
            ]
        if max(map(len, lines)) > PAYLOAD_BYTES_MAX:
            raise TooLargeError(max(lines, key=len))
        return lines

    return cut


class _Shape:
    """The tree of keys that a set of paths needs decoded, as nested msgspec structs."""

    def __init__(self) -> None:
        self.children: dict[str, _Shape] = {}
        self.is_leaf = False

    def add(self, path: _Path) -> bool:
        """Enter a path; False if it is too long, or one path goes through another's end."""
        if len(path) > _PATH_LENGTH_MAX:
            return False
        node = self
        for key in path:
            if node.is_leaf:
                return False
            node = node.children.setdefault(key, _Shape())
        node.is_leaf = True
        return not node.children

    def type(self) -> type:
        """Return the type to decode; ValueError for a key that msgspec does not take."""
        if self.is_leaf:
            return msgspec.Raw
        names = {key: f"f{index}" for index, key in enumerate(self.children)}
        return msgspec.defstruct(
            "Shape",
            [(names[key], child.type()) for key, child in self.children.items()],
            rename={name: key for key, name in names.items()},
            gc=False,
        )

    def picker(self, paths: Sequence[_Path]) -> Callable[[Any], Any]:
        """Return what takes the paths' ends out of a decoded value; several as a tuple."""
        if self.is_leaf:
            return lambda raw: (raw,) * len(paths)
        return attrgetter(*(self._attribute(path) for path in paths))

    def _attribute(self, path: _Path) -> str:
        """Return the dotted attribute of the decoded value where a path ends."""
        names, node = [], self
        for key in path:
            names.append(f"f{list(node.children).index(key)}")
            node = node.children[key]
        return ".".join(names)
