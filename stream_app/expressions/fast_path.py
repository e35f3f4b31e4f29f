"""Fast path: plain paths and object literals of plain paths, sliced from the record's own bytes.

`$event.body`, `$event.a["x-y"]`, `{ id: $event.id, "user": $event.body.user }`: msgspec looks for
just these keys and leaves their values as they are written, some 0.5 us a kilobyte. An event that
lacks the last key of a path takes a second, slower look. Whatever else a path can mean is for the
engine to decide; the slices that the other paths do find then replace the values in its line. So
the bytes of a value do not depend on the event's other fields.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, contains
from typing import Any, Final, NamedTuple

import msgspec

LINE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one line; a larger payload fails its event."""


class TooLargeError(Exception):
    """A line has more than LINE_BYTES_MAX bytes."""


FALLBACK_ERRORS: Final = (
    msgspec.MsgspecError,  # not JSON, or a path finds no value
    TypeError,  # None instead of a value
    UnicodeDecodeError,
    RecursionError,
    TooLargeError,
)
"""Exceptions for values of which one has no line, or an unusual one: `FastPath.find` tries each."""
Path = tuple[str, ...]
INHERITED: Final = frozenset(
    [
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
        *("__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf"),
    ]
)
"""Names that every object of JavaScript has."""

_NEWLINE, _RETURN = b"\n\r"
"""As numbers: to find bytes in bytes, Python first tries them as a number, and drops the error."""
_PATH_LENGTH_MAX: Final = 32
_FIELDS_MAX: Final = 256
"""Longer paths and larger objects are left to the engine."""

# Strings with a backslash are left to the engine, and so are comments and white space beyond ASCII.
# White space is matched possessively (`*+`): backtracking never helps, and costs quadratic time.
_S = r"[ \t\r\n]*+"
STRING = r"""(?:"[^"\\\r\n]*"|'[^'\\\r\n]*')"""
_NAME = r"[A-Za-z_$][A-Za-z0-9_$]*+"
_STEP = rf"{_S}(?:\?\.|\.){_S}{_NAME}|{_S}(?:\?\.{_S})?\[{_S}{STRING}{_S}\]"
PATH = rf"(?:\$event|event)(?![A-Za-z0-9_$])(?:{_STEP})*+"
_FIELD = rf"{_S}({_NAME}|{STRING}){_S}:{_S}({PATH}){_S}"
_PATH_TEXT: Final = re.compile(PATH)
_OBJECT_TEXT: Final = re.compile(rf"\{{{_FIELD}(?:,{_FIELD})*+(?:,{_S})?\}}")
_FIELD_TEXT: Final = re.compile(_FIELD)
_STEP_KEY: Final = re.compile(rf"({STRING})|\.{_S}({_NAME})")
_INTEGER_KEY: Final = re.compile(r"[0-9]+")


_WHOLE: Final = msgspec.json.Decoder(msgspec.Raw)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class FastPath:
    """Compiled fast path of an expression."""

    lines_of: Callable[[list[Any]], list[bytes]]
    """Function from values to their lines; raises one of `FALLBACK_ERRORS` unless each has one."""
    _shape: "Shape"
    _decode: Callable[[Any], Any]
    """As the shape's type, with None for members that an object has not."""
    _paths: list[Path]
    _names: list[str] | None
    """Names of the object's members; None for the value of the only path itself."""
    decide: Callable[[Any], bool | None] | None = None
    """Function from a value to whether it has a line: else it is skipped. It returns None where the
    engine is to decide. None instead of a function: every value has one."""

    def find(self, value: bytes) -> "Found | None":
        """Return what the paths lead to in one value; None if it is not JSON, or too deep."""
        slices: dict[Path, bytes] = {}
        try:
            if not value.isascii():
                value.decode()
            try:
                is_complete = self._shape.gather(self._decode(value), (), slices)
            except msgspec.ValidationError:  # An array, for example, where an object was expected.
                self._shape.collect(_WHOLE.decode(value), (), slices)
                is_complete = False
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return Found(slices, is_complete)

    def line_of(self, found: "Found", by_engine: bytes | None = None) -> bytes | None:
        """Return the line of what was found, or None for `undefined`.

        What was not found is taken from the engine's line, if there is one. That is no deeper than
        the value, so neither is this for a caller that called `find`.
        """
        if self._names is None:
            (path,) = self._paths
            line = found.slices.get(path) or by_engine
            return None if line is None else _on_one_line(line)
        members = {} if by_engine is None else _MEMBERS.decode(by_engine)
        parts = []
        for name, path in zip(self._names, self._paths, strict=True):
            part = found.slices.get(path) or members.get(name)
            if part is not None:
                parts.append(b"%b:%b" % (msgspec.json.encode(name), part))
        return _on_one_line(b"{%b}" % b",".join(parts))


class Found(NamedTuple):
    """What the paths lead to in one value."""

    slices: dict[Path, bytes]
    is_complete: bool
    """Whether all other paths are `undefined`; else the engine is to decide about them."""


def compile_fast_path(text: str) -> FastPath | None:
    """Return the fast path of an expression that the engine accepts, or None if it has none."""
    text = text.strip(" \t\r\n")
    if _PATH_TEXT.fullmatch(text):
        return _compiled([path_keys(text)], None)
    if _OBJECT_TEXT.fullmatch(text) is None:
        return None
    names: list[str] = []
    paths: list[Path] = []
    for match in _FIELD_TEXT.finditer(text, 1):
        name, path = match.groups()
        names.append(name[1:-1] if name[0] in "\"'" else name)
        paths.append(path_keys(path))
    if (
        len(names) > _FIELDS_MAX
        or len(set(names)) < len(names)  # The last value wins, at the first position.
        or "__proto__" in names  # This sets the prototype instead.
        or any(_INTEGER_KEY.fullmatch(name) for name in names)  # JavaScript moves these ahead.
    ):
        return None
    return _compiled(paths, names)


def path_keys(path: str) -> Path:
    """Return the keys of a path that matches `PATH`."""
    return tuple(match[1][1:-1] if match[1] else match[2] for match in _STEP_KEY.finditer(path, 5))


def _compiled(paths: list[Path], names: list[str] | None) -> FastPath | None:
    """Return the fast path to the only path's value, or to an object of these names."""
    shape = Shape()
    if not all(shape.add(path) for path in paths):
        return None
    template = names and ",".join(
        msgspec.json.encode(name).decode().replace("%", "%%") + ":%b" for name in names
    )
    try:
        lines_of = _slicer(shape, paths, None if template is None else f"{{{template}}}".encode())
        decode: Callable[[Any], Any] = msgspec.json.Decoder(shape.type(is_lenient=True)).decode
    except ValueError:
        return None  # msgspec refuses the key: it has a control character, for example.
    return FastPath(lines_of, shape, decode, paths, names)


def _slicer(
    shape: "Shape", paths: list[Path], template: bytes | None
) -> Callable[[list[Any]], list[bytes]]:
    decode: Callable[[Any], Any] = msgspec.json.Decoder(shape.type()).decode
    takes_all = template is None and () in paths
    pick = shape.picker(paths)

    def lines_of(values: list[Any]) -> list[bytes]:
        # Nearly all of this runs in C: a few steps of Python for each value would cost as much as
        # decoding it.
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
                value.decode()  # msgspec does not check the UTF-8 of what it slices.
        if any(any(map(contains, lines, repeat(it))) for it in (_NEWLINE, _RETURN)):
            lines = list(map(_on_one_line, lines))
        if max(map(len, lines)) > LINE_BYTES_MAX:
            raise TooLargeError
        return lines

    return lines_of


def _on_one_line(line: bytes) -> bytes:
    return msgspec.json.format(line, indent=-1) if _NEWLINE in line or _RETURN in line else line


class Shape:
    """Tree of the keys that a set of paths needs, which becomes nested msgspec structs."""

    def __init__(self) -> None:
        self.children: dict[str, Shape] = {}
        self.is_leaf = False

    def add(self, path: Path) -> bool:
        """Add a path; False if it is too long, or one path goes through another's end."""
        if len(path) > _PATH_LENGTH_MAX:
            return False
        node = self
        for key in path:
            if node.is_leaf:
                return False
            node = node.children.setdefault(key, Shape())
        node.is_leaf = True
        return not node.children

    def type(self, *, is_lenient: bool = False) -> type:
        """Return the type to decode; raise ValueError for a key that msgspec refuses."""
        if self.is_leaf:
            return msgspec.Raw
        names = {key: f"f{index}" for index, key in enumerate(self.children)}
        fields = [
            (name, child.type(is_lenient=is_lenient))
            for name, child in zip(names.values(), self.children.values(), strict=True)
        ]
        return msgspec.defstruct(
            "Shape",
            [(name, it if it is msgspec.Raw else it | None, None) for name, it in fields]
            if is_lenient
            else fields,
            rename={name: key for key, name in names.items()},
            gc=False,
        )

    def gather(
        self, decoded: msgspec.Raw | msgspec.Struct, path: Path, slices: dict[Path, bytes]
    ) -> bool:
        """Add the slices of a value decoded leniently; return whether nothing else has a value."""
        if isinstance(decoded, msgspec.Raw):
            slices[path] = bytes(decoded)
            return True
        is_complete = True
        members = msgspec.structs.astuple(decoded)
        for (key, child), member in zip(self.children.items(), members, strict=True):
            if member is None:
                is_complete = is_complete and child.is_leaf and key not in INHERITED
            elif not child.gather(member, (*path, key), slices):
                is_complete = False
        return is_complete

    def collect(self, raw: msgspec.Raw, path: Path, slices: dict[Path, bytes]) -> None:
        """Add the slices of any JSON, where JavaScript has own properties."""
        if self.is_leaf:
            slices[path] = bytes(raw)
            return
        members: Mapping[str, msgspec.Raw]
        try:
            members = _MEMBERS.decode(raw)
        except msgspec.ValidationError:  # No object.
            if not any(map(_INTEGER_KEY.fullmatch, self.children)):
                return
            try:
                members = {f"{index}": it for index, it in enumerate(_ITEMS.decode(raw))}
            except msgspec.ValidationError:  # No array either.
                return
        for key, child in self.children.items():
            if key in members:
                child.collect(members[key], (*path, key), slices)

    def picker(self, paths: Sequence[Path]) -> Callable[[Any], Any]:
        """Return a getter of the paths' ends in a decoded value; several give a tuple."""
        if self.is_leaf:
            return lambda raw: (raw,) * len(paths)
        return attrgetter(*(self.attribute(path) for path in paths))

    def attribute(self, path: Path) -> str:
        """Return the dotted attribute of the decoded value where a path ends."""
        names, node = [], self
        for key in path:
            names.append(f"f{list(node.children).index(key)}")
            node = node.children[key]
        return ".".join(names)
