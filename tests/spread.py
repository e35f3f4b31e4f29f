"""Distribution of tests over the processes of `pytest -n`: by test, and by file where tests share.

The tests of a file that has a fixture for its module, or the mark `xdist_group`, run in one
process. All others go to any process, in the order in which they are collected. `--dist loadgroup`
would read the marks, but does nothing with pytest 9.2 (issue 1386 of pytest-xdist).
"""

import functools
import re
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadScopeScheduling

SHARED: Final = re.compile(r'scope="module"|xdist_group')


class Spread(LoadScopeScheduling):
    """Scheduling by `group_of`."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid, self.config.rootpath)


def group_of(nodeid: str, root: Path) -> str:
    """Return the name of the tests that run in the same process as this one."""
    file = nodeid.partition("::")[0]
    return file if _is_shared(root / file) else nodeid


@functools.cache
def _is_shared(file: Path) -> bool:
    return SHARED.search(file.read_text("utf-8")) is not None
