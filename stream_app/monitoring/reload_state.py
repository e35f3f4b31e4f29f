"""State of the configuration file in a running worker, for metrics. Pure: a record only."""

from dataclasses import dataclass


@dataclass(slots=True)
class ReloadState:
    """Result of the last reload of the configuration file."""

    destinations: int
    """Number of destinations in use."""
    succeeded_at: float
    """Time of the last success, in seconds since 1970; the start counts."""
    is_valid: bool = True
    needs_restart: bool = False
    """The file has a change that a running worker cannot apply."""
