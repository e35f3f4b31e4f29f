"""Shape of an event: the keys that an expression's paths need, which msgspec decodes alone.

msgspec looks for just these keys and leaves their values as they are written, some 0.7 us a
kilobyte. A walk over slices, which takes longer, knows where a path ends in any other event.

Pure; safe to call from several threads at once.
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from stream_app.expressions.values import UndecidedError, Value, is_nullish

Path = tuple[str, ...]
Getter = Callable[[Any], Any]
"""Function from a decoded event to the `msgspec.Raw` where a path ends, or None if its last key is
missing. It raises AttributeError if another is missing, or null."""

INHERITED: Final = frozenset(
    [
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
        *("__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf"),
    ]
)
"""Names that every object of JavaScript has."""
PATH_LENGTH_MAX: Final = 32
"""Longer paths are left to the engine."""

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Step(NamedTuple):
    """Step of a path from a value to its member."""

    key: str
    is_optional: bool
    """Whether it is written with `?.`, which ends the path at `undefined` and `null`."""


class Shape:
    """Tree of the keys that a set of paths needs, which becomes nested msgspec structs."""

    def __init__(self) -> None:
        self.children: dict[str, Shape] = {}
        self.is_leaf = False
        self.get: Getter = attrgetter("f0")
        """Getter of the value at this leaf, once the tree is compiled."""

    def add(self, path: Path) -> "Shape":
        """Add a path and return the node where it ends."""
        node = self
        for key in path:
            node = node.children.setdefault(key, Shape())
        node.is_leaf = True
        return node

    def compile(self, outer: Getter | None = None) -> Callable[[Any], Any]:
        """Give each leaf its getter, and return the function that decodes an event.

        Args:
            outer: Getter of the value that this tree decodes, if that is not the whole event.
        """
        kind = self.type(is_strict=False) if self.children else msgspec.Raw
        decode: Callable[[Any], Any] = msgspec.json.Decoder(kind).decode
        self.compile_leaves("", None if outer is None else _within(outer, decode))
        return decode

    def compile_leaves(self, prefix: str, struct: Getter | None) -> None:
        """Give each leaf its getter, which finds this node by a prefix in a decoded struct."""
        for index, child in enumerate(self.children.values()):
            name = f"{prefix}f{index}"
            if not child.is_leaf:
                child.compile_leaves(f"{name}.", struct)
                continue
            child.get = attrgetter(name) if struct is None else _chained(struct, attrgetter(name))
            if child.children:  # One path goes through another's end.
                child.compile(child.get)

    def strict_decoder(self) -> Callable[[Any], Any]:
        """Return the function that decodes an event in which each path has a value."""
        kind = self.type(is_strict=True) if self.children else msgspec.Raw
        decode: Callable[[Any], Any] = msgspec.json.Decoder(kind).decode
        return decode

    def type(self, *, is_strict: bool) -> Any:  # noqa: ANN401 - a type of msgspec
        """Return the type to decode, in which each member is required if it is strict."""
        names = {key: f"f{index}" for index, key in enumerate(self.children)}
        fields: list[Any] = []
        for name, child in zip(names.values(), self.children.values(), strict=True):
            if child.is_leaf:
                kind: Any = msgspec.Raw
            else:
                kind = child.type(is_strict=is_strict)
                kind = kind if is_strict else kind | None
            fields.append((name, kind) if is_strict else (name, kind, None))
        rename = {name: key for key, name in names.items()}
        return msgspec.defstruct("Shape", fields, rename=rename, gc=False)

    def picker(self, paths: Sequence[Path]) -> Getter:
        """Return a getter of paths' ends, none of them within another; several give a tuple."""
        if not self.children:
            return lambda raw: (raw,) * len(paths)
        return attrgetter(*map(self._attribute, paths))

    def _attribute(self, path: Path) -> str:
        names, node = [], self
        for key in path:
            names.append(f"f{list(node.children).index(key)}")
            node = node.children[key]
        return ".".join(names)

    def template(self) -> bytes:
        """Return JSON of an event that has these keys alone, with `%b` for each leaf, in order."""
        parts = [
            msgspec.json.encode(key).replace(b"%", b"%%")
            + b":"
            + (b"%b" if child.is_leaf else child.template())
            for key, child in self.children.items()
        ]
        return b"{%b}" % b",".join(parts)

    def skeleton(self, decoded: Any) -> bytes:  # noqa: ANN401 - of the compiled type
        """Return what fills the template, without the leaves that a decoded event lacks.

        Raises:
            UndecidedError: An object on the way is missing or null: which one, nobody knows here.
        """
        parts = []
        members = msgspec.structs.astuple(decoded)
        for (key, child), member in zip(self.children.items(), members, strict=True):
            if member is not None:
                part = bytes(member) if child.is_leaf else child.skeleton(member)
                parts.append(b"%b:%b" % (msgspec.json.encode(key), part))
            elif not child.is_leaf:
                raise UndecidedError
        return b"{%b}" % b",".join(parts)


def _within(outer: Getter, decode: Callable[[Any], Any]) -> Getter:
    def struct(event: Any) -> Any:  # noqa: ANN401 - decoded values
        raw = outer(event)
        return None if raw is None or bytes(raw) == b"null" else decode(raw)

    return struct


def _chained(struct: Getter, pick: Getter) -> Getter:
    return lambda event: pick(struct(event))


def walk(value: bytes, steps: Sequence[Step]) -> Value:
    """Return the value where a path through a value ends; what is no own member is undecided."""
    found: Value = value
    for key, is_optional in steps:
        if is_nullish(found):
            if is_optional:
                return None
            raise UndecidedError
        found = _member(found, key)  # type: ignore[arg-type]
    return found


def _member(value: bytes, key: str) -> Value:
    if value[:1] == b"{":
        member = _MEMBERS.decode(value).get(key)
        if member is not None:
            return bytes(member)
        if key not in INHERITED:
            return None
    elif value[:1] == b"[" and _INDEX.fullmatch(key):
        items = _ITEMS.decode(value)
        return bytes(items[int(key)]) if int(key) < len(items) else None
    raise UndecidedError
