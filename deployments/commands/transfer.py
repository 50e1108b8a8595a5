"""`ratchet export` and `ratchet import`: models out as Hugging Face folders, and in from outside."""

from pathlib import Path
from typing import get_args

import click

from deployments.commands.options import (
    STDERR,
    debug_option,
    json_option,
    print_json,
    read_settings,
    workspace_option,
)
from deployments.in_process import registry
from deployments.session import registry_server
from deployments.terminal import Terminal
from deployments.transfer import check_alias, check_name, check_target, export_file, export_model, import_model
from flows.events import listening
from models.gguf_export import Precision


def say(text: str) -> None:
    STDERR.print(text, style="dim", markup=False)


@click.command("export")
@click.argument("model")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="F16",
    show_default=True,
    help="Of the weights in a GGUF file; a folder keeps them as they are.",
)
@workspace_option
@json_option
@debug_option
def export(model: str, folder: Path, precision: Precision, workspace: Path | None, as_json: bool) -> None:
    """Write a model as a Hugging Face folder, or as one GGUF file.

    MODEL is models:/NAME@ALIAS, models:/NAME/VERSION, an artifact's address, a folder, a GGUF file, s3://… or
    hf:ORG/NAME. DIR must be empty or missing. The model card becomes its README.md, and the result is loaded once.
    A DIR that ends in .gguf is a file: Llama models only, with their tokenizer and chat template.

    Example: ratchet export models:/tiny@generator ./my-model
    """
    check_target(folder)
    settings = read_settings(workspace)
    with registry([model], settings, say) as uri, Terminal(STDERR) as terminal, listening(terminal):
        if folder.suffix == ".gguf":
            document = export_file(model, folder, precision, settings, uri)
        else:
            document = export_model(model, folder, settings, uri)
    STDERR.print(f"{model} is in {document['folder']}: {document['parameters']:,} parameters", markup=False)
    if as_json:
        print_json(document)


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="The registered model's name.")
@click.option("--licence", default="", help="SPDX identifier of the weights' licence, where the source names none.")
@click.option("--alias", help="Point this alias at the new version.")
@workspace_option
@json_option
@debug_option
def import_(source: str, name: str, licence: str, alias: str | None, workspace: Path | None, as_json: bool) -> None:
    """Bring a Hugging Face folder or a GGUF file into the store and the registry.

    SOURCE is a folder, a GGUF file, s3://… or hf:ORG/NAME. The same content again is the same version.

    Example: ratchet import ./SmolLM2.gguf --name smollm2
    """
    check_name(name)
    check_alias(alias)
    settings = read_settings(workspace)
    with registry_server(settings, say, create=True) as uri, Terminal(STDERR) as terminal, listening(terminal):
        row = import_model(source, name, licence, alias, settings, str(uri))
    STDERR.print(f"models:/{row['name']}/{row['version']} is {row['uri']}", markup=False)
    if as_json:
        print_json(row)


COMMANDS = {"export": export, "import": import_}
