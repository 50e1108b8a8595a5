"""`ratchet report`: where an iteration's page is; a damaged one is made again from what its manifest names."""

import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.in_process import run_here
from deployments.terminal import Terminal
from flows.events import listening
from infra.artifacts import Artifact, list_artifacts
from infra.errors import InputError, StoreError
from infra.manifest import Manifest
from infra.records import ROOT, Records, lineages
from infra.settings import Settings
from infra.storage import Storage
from tasks.configs.report import ReportConfig

PAGE = "report.html"


@dataclass(frozen=True)
class Turn:
    """A finished iteration, as its verdict's record names it."""

    project: str
    lineage: str
    number: int
    created: str

    def __str__(self) -> str:
        return f"iteration {self.number} of project {self.project}, lineage {self.lineage}"


@click.command("report")
@click.argument("iteration", type=click.IntRange(min=1), required=False)
@click.option("--remake", is_flag=True, help="Make the page again although it is there; job timings are then left out.")
@click.option("--open", "opened", type=click.Choice(("yes", "no")), default="no", show_default=True,
              is_flag=False, flag_value="yes", help="Show it in the browser.")  # fmt: skip
@workspace_option
@json_option
@debug_option
def report(iteration: int | None, remake: bool, opened: str, workspace: Path | None, as_json: bool) -> None:
    """Say where an iteration's report is (by default the latest), and make it again where it is damaged.

    Example: ratchet report 2
    """
    settings = read_settings(workspace)
    turn = find_turn(Storage.open(settings.store), settings.project, iteration)
    page, made = find_or_make(turn, settings, remake)
    path = page.folder() / PAGE
    if as_json:
        print_json(
            {"project": turn.project, "lineage": turn.lineage, "iteration": turn.number, "report": str(path),
             "uri": page.uri, "state": "made" if made else "found"}
        )  # fmt: skip
    else:
        click.echo(path)
    if opened == "yes":
        webbrowser.open(path.as_uri())


def find_turn(store: Storage, project: str | None, number: int | None) -> Turn:
    """The latest finished iteration (of this number, of this project). Raises InputError when there is none."""
    turns = [*finished(store, project)]
    asked = [turn for turn in turns if number in (None, turn.number)]
    if not asked:
        what = "no finished iteration" if number is None else f"no finished iteration {number}"
        known = sorted({f"{turn.number} ({turn.project})" for turn in turns})
        remedy = f"there are {', '.join(known)}" if known else "`ratchet run` makes one; check --workspace"
        raise InputError(f"{what} in {store.uri}" + (f" of project {project}" if project else ""), remedy)
    return max(asked, key=lambda turn: (turn.created, turn.number))


def finished(store: Storage, project: str | None) -> Iterator[Turn]:
    for name in [project] if project else store.children(ROOT):
        for lineage in lineages(store, name):
            for record in Records(store, name, lineage).all("verdict"):
                yield Turn(name, lineage, record.number, record.created)


def find_or_make(turn: Turn, settings: Settings, remake: bool) -> tuple[Artifact, bool]:
    """The report's artifact, and whether it was made just now."""
    store = Storage.open(settings.store)
    pages = [(artifact, artifact.manifest()) for artifact in list_artifacts(store, ReportConfig.stage)]
    own = [entry for entry in pages if belongs(entry[1], turn, turn.number)]
    if not own:
        raise StoreError(f"the report of {turn} is not in the store", command(turn, pages))
    page, manifest = max(own, key=lambda entry: entry[1].created)
    problems = page.verify()
    if not problems and not remake:
        return page, False
    for file, reason in problems:
        STDERR.print(f"{page.uri}/{file}: {reason}; making it again", markup=False, soft_wrap=True)
    config = ReportConfig.model_validate(manifest.recipe)
    inputs = {name: given(store, manifest, name) for name in manifest.inputs}
    for item in (item for value in inputs.values() for item in (value if isinstance(value, tuple) else (value,))):
        check_input(item, turn, manifest)
    page.quarantine("; ".join(f"{file}: {reason}" for file, reason in problems) or "made again on request")
    with Terminal(STDERR) as terminal, listening(terminal):
        return run_here("report", config, settings, inputs), True


def belongs(manifest: Manifest, turn: Turn, number: int | None = None) -> bool:
    """Whether this is a report of the turn's lineage, and of iteration `number` where one is given."""
    recipe = manifest.recipe
    ours = (recipe.get("project"), recipe.get("lineage")) == (turn.project, turn.lineage)
    return ours and number in (None, recipe.get("number"))


def command(turn: Turn, pages: list[tuple[Artifact, Manifest]]) -> str:
    """What makes the report: the command of another iteration of this lineage is known from its own report."""
    known = [manifest.recipe["reproduce"] for _, manifest in pages if belongs(manifest, turn)]
    again = f"`{known[0]}` with --iterations {turn.number} or more" if known else "the same `ratchet run` again"
    return f"run {again}: everything else is found, the report is made"


def given(store: Storage, manifest: Manifest, name: str) -> Artifact | tuple[Artifact, ...]:
    """The input that the manifest names, one artifact or several."""
    stages, fingerprints = manifest.input_stages[name], manifest.inputs[name]
    if isinstance(stages, str) or isinstance(fingerprints, str):
        return Artifact(stage=str(stages), kind="unknown", fingerprint=str(fingerprints), store=store.uri)
    return tuple(
        Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=store.uri)
        for stage, fingerprint in zip(stages, fingerprints, strict=True)
    )


def check_input(artifact: Artifact, turn: Turn, manifest: Manifest) -> None:
    """Raise before anything is moved away where the report could not be made again."""
    for file, reason in artifact.check():
        raise StoreError(
            f"the report of {turn} cannot be made again: {artifact.uri}/{file} is {reason}",
            f"run `{manifest.recipe['reproduce']}`: what is missing is made, the report too",
        )


COMMANDS = {"report": report}
