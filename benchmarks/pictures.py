# ruff: noqa: INP001 - used by programs, no package
"""What the pictures of the benchmarks have in common: SVG, the same bytes for the same figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INCHES: Final = (8.0, 4.0)
STYLE: Final = {"svg.fonttype": "path", "svg.hashsalt": "stream-app", "font.size": 10}


@contextmanager
def picture(file: Path) -> Iterator[Axes]:
    """Hand out axes to draw on, and write the file when that is done."""
    with mpl.rc_context(STYLE):
        figure = Figure(INCHES, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top"]].set_visible(False)
        yield axes
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})


def legend(axes: Axes) -> None:
    """Explain above the axes what is drawn on them."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
