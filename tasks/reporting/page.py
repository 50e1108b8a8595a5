"""The page itself: the facts, and the templates that put them into one self-contained HTML file.

Everything is escaped but the markup of `tasks.reporting.plots`: rows are model output, and models write what they like.
"""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.configs.report import ReportConfig
from tasks.configs.training import RewardModelConfig
from tasks.reporting.advice import Advice, advice_of
from tasks.reporting.cost import Cost, cost_of
from tasks.reporting.data import Funnel, Mix, PairSet, Solved, funnels_of, mixes_of, pair_sets_of, solved_of
from tasks.reporting.judges import Judges, RewardFit, judges_of, reward_fit_of
from tasks.reporting.lineage import Turn
from tasks.reporting.numerals import count, difference, duration, hundredths, number, percent, signed
from tasks.reporting.plots import CONTROL
from tasks.reporting.provenance import Provenance, provenance_of
from tasks.reporting.samples import SampleSet, samples_of
from tasks.reporting.searches import SearchTable, searches_of
from tasks.reporting.sources import Coverage, Diversity, Sources, coverages_of, diversity_of, sources_of
from tasks.reporting.steps import Control, StepTable, controls_of, step_table
from tasks.reporting.training import Curves, TrainedRow, TuningRow, curves_of, pretraining_of, trained_rows, tuning_rows
from tasks.reporting.verdict import FamilyRow, Flips, Headline, families_of, family_plot, flips_of, headline_of

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_TEXT = 1500
"""Characters of a long text."""


@dataclass(frozen=True)
class Page:
    """All that the templates show."""

    config: ReportConfig
    headline: Headline
    advice: Advice
    families: list[FamilyRow]
    family_plot: Markup
    steps: StepTable
    flips: list[Flips]
    controls: list[Control]
    funnels: list[Funnel]
    mixes: list[Mix]
    pair_sets: list[PairSet]
    solved: list[Solved]
    sources: Sources | None
    coverages: list[Coverage]
    diversity: Diversity
    judges: Judges | None
    reward_fit: RewardFit | None
    trained: list[TrainedRow]
    tuning: list[TuningRow]
    searches: list[SearchTable]
    curves: list[Curves]
    samples: list[SampleSet]
    cost: Cost
    provenance: Provenance
    fingerprint: str
    """The report's own."""
    self_improvement: bool
    """Whether generator and base are the same model."""

    @property
    def pair_judges(self) -> list[str]:
        """Who judged the pairs of any set; other data sets may bring judges of their own."""
        return [*dict.fromkeys(judge for pairs in self.pair_sets for judge in pairs.judges)]


def page_of(turn: Turn, fingerprint: str) -> Page:
    families = families_of(turn)
    rewards = {node.manifest.label: node for node in turn.of_stage(RewardModelConfig.stage)}
    nodes = pretraining_of(turn) | rewards | turn.models
    return Page(
        config=turn.config,
        headline=headline_of(turn),
        advice=advice_of(turn),
        families=families,
        family_plot=family_plot(families),
        steps=step_table(turn),
        flips=flips_of(turn),
        controls=controls_of(turn),
        funnels=funnels_of(turn),
        mixes=mixes_of(turn),
        pair_sets=pair_sets_of(turn),
        solved=solved_of(turn),
        sources=sources_of(turn),
        coverages=coverages_of(turn),
        diversity=diversity_of(turn),
        judges=judges_of(turn),
        reward_fit=reward_fit_of(turn),
        trained=trained_rows(pretraining_of(turn) | turn.models),
        tuning=tuning_rows(turn),
        searches=searches_of(turn),
        curves=curves_of(nodes),
        samples=samples_of(turn),
        cost=cost_of(turn),
        provenance=provenance_of(turn),
        fingerprint=fingerprint,
        self_improvement=bool(turn.base) and turn.base == turn.generator,
    )


def render(page: Page) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters = (percent, signed, number, hundredths, difference, count, duration, plain)
    environment.filters |= {function.__name__: function for function in filters}
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(page=page, style=style)


def plain(text: str) -> str:
    """A model's text: control characters made visible, its tail cut off where it is long."""
    text = CONTROL.sub("\ufffd", text)
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]} … ({len(text) - SHOWN_TEXT} characters more)"
