"""The report of an iteration: one self-contained HTML page that says what happened, why, and what to try next.

It is read from manifests and data files alone; clock readings come from them and from the settings, never from here.
"""

from infra.artifacts import Artifact
from infra.output import Outcome, Output
from tasks.configs.report import ReportConfig
from tasks.reporting.lineage import Given, read_turn
from tasks.reporting.page import page_of, render

PAGE = "report.html"


def run(
    config: ReportConfig,
    output: Output,
    verdict: Artifact,
    exams: tuple[Artifact, Artifact],
    baseline: Artifact,
    data: tuple[Artifact, ...] = (),
    models: tuple[Artifact, ...] = (),
    evaluations: tuple[Artifact, ...] = (),
    controls: tuple[Artifact, ...] = (),
    searches: tuple[Artifact, ...] = (),
) -> Outcome:
    """report.html. `exams` are the generator's and the candidate's on the gate half, `baseline` the generator's on the
    development half, `searches` the tables of phases whose settings were searched; the other tuples are in the order of
    the labels in `config`.

    Raises InputError where labels and artifacts differ in number.
    """
    turn = read_turn(config, Given(verdict, exams, baseline, data, models, evaluations, controls, searches))
    output.write_text(PAGE, render(page_of(turn, output.fingerprint)))
    return Outcome(result={"verdict": turn.verdict.manifest.result["verdict"]})
