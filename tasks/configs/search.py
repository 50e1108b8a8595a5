"""A setting that is a range, and the candidates of a config that has some: one for each combination of values.

    general_sft: {learning_rate: {low: 1e-5, high: 1e-4}}      three candidates: 1e-05, 3.16228e-05, 0.0001

A candidate is a config as plain values would make it, so that its stage has the address that those values give it.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from infra.errors import InputError
from tasks.configs.base import Config, StageConfig

MOST_CANDIDATES = 64
"""Combinations that one config may stand for: each is a training and an examination of its own."""
DIGITS = 6
"""Of the values in between: powers differ in their last bits from machine to machine, addresses must not."""
EXAMINED = ("code_sft", "general_sft", "preference_tuning")
"""Trainings of a plan that are examined on the development half, so that their settings can be searched."""


class Range(Config):
    """Values to try instead of one: `points` of them, from `low` to `high`, both included."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    points: int = Field(default=3, ge=2, le=MOST_CANDIDATES)
    scale: Literal["log", "linear"] = "log"
    """Equal factors between neighbours, or equal differences."""

    @model_validator(mode="after")
    def _spans(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low={self.low} and high={self.high}: expected low below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low={self.low}: expected a value above 0, or scale=linear")
        if len({*self.values()}) < self.points:
            raise ValueError(f"{self.points} points do not fit between low={self.low} and high={self.high}: give fewer")
        return self

    def values(self) -> tuple[float, ...]:
        """In rising order."""
        shares = [place / (self.points - 1) for place in range(1, self.points - 1)]
        between = [float(f"{self._at(share):.{DIGITS}g}") for share in shares]
        return (self.low, *between, self.high)

    def _at(self, share: float) -> float:
        if self.scale == "log":
            return math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        return (1 - share) * self.low + share * self.high


def _written_as(value: Any) -> str:
    return "range" if isinstance(value, Mapping | Range) else "number"


def _lowest(value: float | Range) -> float:
    return value.low if isinstance(value, Range) else value


def _above_zero(value: float | Range) -> float | Range:
    if not _lowest(value) > 0:
        raise ValueError("Input should be greater than 0")
    return value


def _zero_or_more(value: float | Range) -> float | Range:
    if not _lowest(value) >= 0:
        raise ValueError("Input should be greater than or equal to 0")
    return value


# The kind is told by the shape, so that an error speaks of what was written and not of the other kind.
_NumberOrRange = Annotated[Annotated[float, Tag("number")] | Annotated[Range, Tag("range")], Discriminator(_written_as)]
Positive = Annotated[_NumberOrRange, AfterValidator(_above_zero)]
NotNegative = Annotated[_NumberOrRange, AfterValidator(_zero_or_more)]

Searched = TypeVar("Searched", bound=StageConfig)


def ranges_of(config: StageConfig) -> dict[str, Range]:
    """The settings that are ranges, by name."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, Range)}


def candidates(config: Searched) -> list[Searched]:
    """A config for each combination of the ranges' values, later settings varying fastest; one without ranges alone.

    Raises InputError for more than MOST_CANDIDATES combinations.
    """
    ranges = ranges_of(config)
    count = math.prod(found.points for found in ranges.values())
    if count > MOST_CANDIDATES:
        grid = " × ".join(f"{name} ({found.points})" for name, found in ranges.items())
        raise InputError(
            f"{config.stage}: {grid} makes {count} combinations, at most {MOST_CANDIDATES} are tried",
            "give the ranges fewer points, or search one setting after the other",
        )
    combinations = itertools.product(*(found.values() for found in ranges.values()))
    return [config.model_copy(update=dict(zip(ranges, values, strict=True))) for values in combinations]


def check_searches(trainings: Mapping[str, StageConfig], half: str) -> None:
    """Raises InputError for a range where nothing could choose, for too many candidates, and for examinations between
    the steps (`half`) on other items than the development half. `trainings` are a plan's, by field."""
    searched = {name: ranges for name, config in trainings.items() if (ranges := ranges_of(config))}
    for name, ranges in searched.items():
        if name.split(".")[0] not in EXAMINED:
            raise InputError(
                f"{name}.{next(iter(ranges))} is a range, and {name} is not examined on the development half",
                f"set one value; ranges are for {', '.join(EXAMINED)}",
            )
        if half != "dev":
            raise InputError(
                f"dev_exam.half is {half!r} and {name} has ranges: the gate's items must not choose settings",
                "set dev_exam.half=dev",
            )
        candidates(trainings[name])


def one_value(name: str, value: float | Range) -> float:
    """The setting `name` as a stage needs it. Raises InputError for a range: only the flow's search expands it."""
    if isinstance(value, Range):
        raise InputError(
            f"{name} is a range from {value.low:g} to {value.high:g}, and a stage trains with one value",
            f"set {name} to a number; a plan's code_sft, general_sft and preference_tuning are searched over ranges",
        )
    return value
