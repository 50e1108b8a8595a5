"""Settings of an iteration's report."""

from typing import Any, ClassVar

from tasks.configs.base import Kind, StageConfig


class ReportConfig(StageConfig):
    """One self-contained HTML page. Clock readings and links are shown but are no part of its identity."""

    stage: ClassVar[str] = "report"
    module: ClassVar[str] = "tasks.report"
    version: ClassVar[int] = 3
    kind: ClassVar[Kind] = "report"

    project: str
    lineage: str
    number: int
    """The iteration's."""
    preset: str
    notes: tuple[str, ...] = ()
    """What the plan leaves out and why."""
    steps: tuple[str, ...]
    """Labels of the training steps, in order."""
    data: tuple[str, ...]
    """Labels of the data sets, in order."""
    controls: tuple[str, ...] = ()
    reproduce: str
    """The command that makes this iteration again."""
    timeline: tuple[dict[str, Any], ...] = ()
    """What each job took: {"job", "seconds", "steps"}."""
    wall_s: float = 0.0
    """Of the iteration so far, start-up of the servers excluded."""
    links: dict[str, str] = {}
    """Pages about this iteration elsewhere, by name."""

    def recipe(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"resources", "timeline", "wall_s", "links"})
