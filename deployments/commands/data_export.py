"""`ratchet data export`: a data set with its card, in a folder."""

from pathlib import Path

import click

from deployments.artifact_names import find_artifact
from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.data_export import FORMATS, export_data


@click.command("export")
@click.argument("artifact")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="Of the rows."
)
@workspace_option
@json_option
@debug_option
def export(artifact: str, folder: Path, kind: str, workspace: Path | None, as_json: bool) -> None:
    """Write a data set with its card: fields, counts, sources, licences, how it was made.

    ARTIFACT is its uri, stage/fingerprint (the first letters are enough), or the fingerprint alone. DIR must be empty
    or missing; `datasets.load_dataset("DIR")` opens it.

    Example: ratchet data export mix/3f2a ./my-data
    """
    document = export_data(find_artifact(artifact, read_settings(workspace).store), folder, kind)
    STDERR.print(f"{document['rows']:,} rows are in {document['folder']}", markup=False)
    if as_json:
        print_json(document)


COMMANDS = {"export": export}
