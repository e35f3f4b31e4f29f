"""Hypothesis profiles: how many examples the property tests take.

pytest tests/property                                  the numbers that the tests state
pytest tests/property --hypothesis-profile=dev         a quarter of them, while one works
pytest tests/property --hypothesis-profile=nightly     ten times as many
"""

from typing import Final

from hypothesis import settings

SHARES: Final = {"dev": 0.25, "full": 1.0, "nightly": 10.0}
EXAMPLES: Final = 100
"""Of a test that states no number."""


def register_profiles() -> None:
    """Register the profiles; `full` is the one without an option."""
    for name, share in SHARES.items():
        # No deadline: on a loaded machine an example may take any time.
        settings.register_profile(name, max_examples=scaled(EXAMPLES, share), deadline=None)
    settings.load_profile("full")


def scaled(count: int, share: float | None = None) -> int:
    """Return `count` times the share, by default that of the profile in use; at least 1."""
    if share is None:
        share = SHARES[settings.get_current_profile_name()]
    return max(1, round(count * share))


def examples(count: int) -> settings:
    """Return the settings of a test that takes `count` examples in the full profile."""
    return settings(max_examples=scaled(count))
