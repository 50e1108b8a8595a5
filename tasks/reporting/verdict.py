"""The gate's verdict in plain words: the headline, what gained and fell by family, and answers that changed sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.reporting.lineage import Turn
from tasks.reporting.numerals import percent, signed
from tasks.reporting.plots import interval_plot, paired_bars
from tasks.reporting.steps import FAMILY, Move, largest_move

TAGS = {"promote": "Promoted", "keep": "Kept the generator", "insufficient": "Undecided"}
CLOSINGS = {
    "promote": "It is the new generator.",
    "keep": "The generator stays.",
    "insufficient": "That is too little to decide on, so the generator stays.",
}
SHOWN_FLIPS = 12
"""Of each direction."""


@dataclass(frozen=True)
class Headline:
    verdict: str
    tag: str
    sentence: str
    reasons: list[str]
    detectable: str
    """What so many items could have shown, "" where nothing could be compared."""
    plot: Markup


@dataclass(frozen=True)
class FamilyRow:
    name: str
    numbers: Mapping[str, Any]
    """As in the verdict: n, generator, candidate, gain, gained, lost, p_regression, regressed."""
    moved: Move | None
    """The step that moved its accuracy most in the direction of its gain, on the development half."""


@dataclass(frozen=True)
class Flips:
    """Items that only one of the two models answers right."""

    right: str
    """ "candidate" or "generator"."""
    total: int
    shown: list[dict[str, Any]]


def headline_of(turn: Turn) -> Headline:
    result = turn.verdict.manifest.result
    verdict = str(result["verdict"])
    plot = Markup("")
    if result["gain"] is not None:
        asked = float(turn.verdict.manifest.recipe.get("min_gain", 0.0))
        plot = interval_plot(result["gain"], tuple(result["ci"]), asked, result["smallest_detectable_gain"])
    return Headline(
        verdict=verdict,
        tag=TAGS.get(verdict, verdict),
        sentence=sentence_of(result),
        reasons=list(result["reasons"]),
        detectable=detectable_of(result),
        plot=plot,
    )


def sentence_of(result: Mapping[str, Any]) -> str:
    closing = CLOSINGS.get(result["verdict"], "")
    if result["gain"] is None:
        return f"No question with a checkable answer was judged for both models. {closing}"
    accuracy, (low, high) = result["accuracy"], result["ci"]
    return (
        f"The candidate answers {percent(accuracy['candidate'])} of {result['n']} sealed questions right, the"
        f" generator {percent(accuracy['generator'])}: {points(result['gain'])}, {level_of(result):.4g} % interval"
        f" {signed(low)} to {signed(high)}. {closing}"
    )


def level_of(result: Mapping[str, Any]) -> float:
    """Of the two-sided interval, in percent: its lower bound alone holds with the gate's confidence."""
    return round(100 * (2 * result["confidence"] - 1), 6)


def points(share: float) -> str:
    """0.05 as "+5.0 points"."""
    return f"{signed(share)} points"


def detectable_of(result: Mapping[str, Any]) -> str:
    if result["smallest_detectable_gain"] is None:
        return ""
    return (
        f"With {result['n']} paired questions in {result['clusters']} groups, {percent(result['discordance'])} of them"
        f" answered right by only one of the two models, the smallest true gain that this gate could have shown is"
        f" {points(result['smallest_detectable_gain'])} (with 80 % power)."
    )


def families_of(turn: Turn) -> list[FamilyRow]:
    """The largest gain first."""
    families = turn.verdict.manifest.result["families"]
    ranked = sorted(families.items(), key=lambda entry: (-entry[1]["gain"], entry[0]))
    return [FamilyRow(name, numbers, moved_at(turn, name, numbers["gain"])) for name, numbers in ranked]


def moved_at(turn: Turn, family: str, gain: float) -> Move | None:
    return largest_move(turn, FAMILY + family, up=gain > 0) if gain else None


def family_plot(families: list[FamilyRow]) -> Markup:
    rows = [(f"{row.name} ({row.numbers['n']})", row.numbers["generator"], row.numbers["candidate"])
            for row in families]  # fmt: skip
    return paired_bars(rows, ("generator", "candidate")) if rows else Markup("")


def flips_of(turn: Turn) -> list[Flips]:
    """Both directions; the verdict keeps some of each with both answers."""
    result, found = turn.verdict.manifest.result, turn.verdict.artifact.read_json("flips.json")
    right = {"gained": "candidate", "lost": "generator"}
    return [Flips(model, result[name], found[name][:SHOWN_FLIPS]) for name, model in right.items()]
