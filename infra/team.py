"""Processes that make one artifact together: each knows its number, and all can wait for each other."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Team:
    """The first of the team (rank 0) speaks and commits for all."""

    rank: int = 0
    size: int = 1
    meet: Callable[[], None] = lambda: None
    """Returns once every process of the team has called it."""

    @property
    def leads(self) -> bool:
        return self.rank == 0
