"""What the end of a run says: the stage table, the verdict with its reasons, and where everything is."""

from typing import Any

from rich.console import Console
from rich.table import Table

from deployments.session import Session
from flows.bookkeeping import Book, IterationSummary
from flows.succession import line_of_generators


def as_document(book: Book) -> dict[str, Any]:
    """The document of `ratchet run --json`."""
    last = book.summaries[-1]
    return {
        "generator": reference(book, generator_version(book)),
        "report": report_path(last),
        "iterations": [
            {
                "number": item.number,
                "verdict": item.verdict,
                "candidate": reference(book, item.candidate),
                "stages": item.stages,
            }
            for item in book.summaries
        ],
    }


def generator_version(book: Book) -> int:
    """Of the model that writes this lineage's next iteration; the alias may point at another lineage's."""
    version = book.registry.version_of(line_of_generators(book.records)[-1])
    assert version is not None, "closing an iteration registers its models"
    return version


def reference(book: Book, version: int) -> str:
    return f"models:/{book.project}/{version}"


def report_path(summary: IterationSummary) -> str:
    return f"{summary.report}/report.html"


def print_summary(console: Console, book: Book, servers: Session) -> None:
    """For people, on stderr."""
    for item in book.summaries:
        console.print(step_table(item))
        console.print(f"[bold]iteration {item.number}: {item.verdict}[/bold]")
        for reason in item.result["reasons"]:
            console.print(f"  · {reason}")
        console.print(f"  report    {report_path(item)}")
        console.print(f"  candidate {reference(book, item.candidate)}")
    console.print(f"generator     {as_document(book)['generator']}")
    workspace = servers.settings.workspace
    if servers.embedded:
        console.print(f"Click through it all: ratchet up --workspace {workspace}, then the Prefect and MLflow pages")
    else:
        console.print(f"Prefect {servers.prefect_api_url.removesuffix('/api')}   MLflow {servers.mlflow_tracking_uri}")


def step_table(item: IterationSummary) -> Table:
    """One row for each examined step: accuracy, reward mean, win rate against the generator."""
    table = Table(title=f"iteration {item.number}: development items after each step", title_justify="left")
    table.add_column("step")
    for name in ("accuracy", "reward mean", "win rate"):
        table.add_column(name, justify="right")
    for label, metrics in item.steps.items():
        values = (metrics.get("accuracy"), metrics.get("reward_mean"), metrics.get("win_rate"))
        table.add_row(label, *("" if value is None else f"{value:.3f}" for value in values))
    return table
