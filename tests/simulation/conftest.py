"""Options of the simulation.

pytest tests/simulation                  2,000 seeds
pytest tests/simulation --seeds 50000    more of them
pytest tests/simulation --seed 4711      one, to look at a failure
"""

import pytest

SEEDS = 2_000
CHUNK = 100
"""Seeds in one test: its time limit is for so many, whatever the number of all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=SEEDS, help="how many seeds are simulated")
    parser.addoption("--seed", type=int, default=None, help="the only seed that is simulated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        # With defaults: pytest knows the options only when this folder is named to it.
        count = metafunc.config.getoption("seeds", SEEDS)
        only = metafunc.config.getoption("seed", None)
        chunks = [range(it, min(it + CHUNK, count)) for it in range(0, count, CHUNK)]
        if only is not None:
            chunks = [range(only, only + 1)]
        metafunc.parametrize("seeds", chunks, ids=lambda it: f"{it[0]}-{it[-1]}")
