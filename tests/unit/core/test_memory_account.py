from stream_app.core.memory_account import MemoryAccount


def sums(*accounts: MemoryAccount) -> list[tuple[int, int]]:
    return [(it.held, it.compressible) for it in accounts]


def test_a_change_reaches_every_account_above() -> None:
    root = MemoryAccount()
    middle = MemoryAccount(root)
    leaf, other = MemoryAccount(middle), MemoryAccount(root)
    leaf.add(100, 30)
    other.add(7)
    assert sums(leaf, middle, other, root) == [(100, 30), (100, 30), (7, 0), (107, 30)]
    leaf.add(-40, -30)
    assert sums(leaf, middle, other, root) == [(60, 0), (60, 0), (7, 0), (67, 0)]


def test_an_account_that_moves_takes_its_bytes_along() -> None:
    root = MemoryAccount()
    one, two = MemoryAccount(root), MemoryAccount(root)
    leaf = MemoryAccount(one)
    leaf.add(100, 30)
    leaf.move(two)
    assert sums(one, two, root) == [(0, 0), (100, 30), (100, 30)]
    leaf.add(1)
    assert sums(one, two, root) == [(0, 0), (101, 30), (101, 30)]


def test_an_account_that_moves_nowhere_is_included_in_no_other() -> None:
    root = MemoryAccount()
    leaf = MemoryAccount(root)
    leaf.add(100)
    leaf.move(None)
    leaf.add(1)
    assert sums(leaf, root) == [(101, 0), (0, 0)]
    leaf.move(root)
    assert sums(root) == [(101, 0)]
