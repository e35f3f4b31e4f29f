"""Memory account: bytes held by bodies, windows and partitions, summed where they are bounded.

    body ─> window ─> open or closed windows of a partition ─> assignment

A body reports each change of its size to its window's account, which passes the change on upward.
So every sum is right at any moment, and nothing else adds or subtracts. Pure.
"""


class MemoryAccount:
    """Bytes of memory that one part of the state holds.

    Args:
        parent: The account in which these bytes are included; None: in no other.
    """

    __slots__ = ("_parent", "compressible", "held")

    def __init__(self, parent: "MemoryAccount | None" = None) -> None:
        self.held = 0
        """Bytes of memory."""
        self.compressible = 0
        """Bytes of lines that could be compressed; included in `held`."""
        self._parent = parent

    def add(self, held: int, compressible: int = 0) -> None:
        """Change the sums by these bytes, here and in every account above; negative: freed."""
        account: MemoryAccount | None = self
        while account is not None:
            account.held += held
            account.compressible += compressible
            account = account._parent  # noqa: SLF001 - of the same class

    def move(self, parent: "MemoryAccount | None") -> None:
        """Include these bytes in another account from now on; None: in no other."""
        if self._parent is not None:
            self._parent.add(-self.held, -self.compressible)
        self._parent = parent
        if parent is not None:
            parent.add(self.held, self.compressible)
