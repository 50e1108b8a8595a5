"""Where the time went: each job against the iteration, and how much of it was the stages' own work."""

from dataclasses import dataclass

from markupsafe import Markup

from tasks.reporting.lineage import Turn
from tasks.reporting.numerals import duration
from tasks.reporting.plots import time_bars


@dataclass(frozen=True)
class Job:
    name: str
    steps: list[str]
    seconds: float
    own: float | None
    """Of its stages' own work; None where a manifest of them is not known."""


@dataclass(frozen=True)
class Cost:
    jobs: list[Job]
    wall_s: float
    jobs_s: float
    own_share: float | None
    """Of the time of those jobs whose stages are all known."""
    plot: Markup


def cost_of(turn: Turn) -> Cost:
    """From the jobs that ran this time (stages found in the store took none) and their manifests."""
    seconds = {node.manifest.label: node.manifest.wall_s for node in (*turn.origins, *turn.tried, *turn.behind)}
    jobs = []
    for entry in turn.config.timeline:
        steps = [str(step) for step in entry["steps"]]
        own = sum(seconds[step] for step in steps) if all(step in seconds for step in steps) else None
        jobs.append(Job(str(entry["job"]), steps, float(entry["seconds"]), own))
    known = [job for job in jobs if job.own is not None]
    known_s = sum(job.seconds for job in known)
    rows = [(job.name, job.seconds, job.own, duration(job.seconds)) for job in jobs]
    return Cost(
        jobs=jobs,
        wall_s=turn.config.wall_s,
        jobs_s=sum(job.seconds for job in jobs),
        own_share=sum(job.own or 0.0 for job in known) / known_s if known_s else None,
        plot=time_bars(rows, turn.config.wall_s) if rows else Markup(""),
    )
