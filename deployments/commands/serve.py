"""`ratchet serve`: one model behind an OpenAI-compatible HTTP server, in this process."""

from pathlib import Path

import click
import torch
from pydantic import SecretStr

from deployments.commands.inference import say
from deployments.commands.options import STDERR, debug_option, read_settings, workspace_option
from deployments.in_process import model_folder, open_engine, resolve_all
from deployments.server.app import make_app
from deployments.server.guard import Access, Guard, is_loopback
from deployments.server.listening import open_socket, serve, url_of
from deployments.server.service import Service
from deployments.terminal import Terminal
from flows.events import listening
from infra.errors import InputError
from infra.services import cores
from infra.settings import SERVE_TOKEN, serve_token
from models.engine.live import LiveEngine


@click.command("serve")
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any but a loopback one needs a token, see below.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--name", metavar="NAME", help="What clients call the model; its reference by default.")
@click.option("--max-rows", type=click.IntRange(1), default=128, show_default=True, help="Answers written at once.")
@click.option("--max-waiting", type=click.IntRange(0), default=256, show_default=True, help="Answers that may wait.")
@click.option("--verbose", is_flag=True, help="Print a line for each request.")
@workspace_option
@debug_option
def serve_model(
    model: str, host: str, port: int, name: str | None, max_rows: int, max_waiting: int, verbose: bool,
    workspace: Path | None,
) -> None:  # fmt: skip
    """Serve a model to OpenAI clients over HTTP.

    With RATCHET_SERVE_TOKEN in the environment, clients must send it as their API key.

    Example: ratchet serve models:/smollm@generator
    """
    settings = read_settings(workspace)
    access = access_for(host, serve_token())
    opened = open_socket(host, port)
    (source,) = resolve_all([model], settings, say)
    with Terminal(STDERR) as terminal, listening(terminal):
        folder = model_folder(source, settings)
    # OMP_NUM_THREADS may ask for fewer than there are.
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    with LiveEngine(open_engine(model, folder, max_rows), max_waiting) as live:
        service = Service(live, name or model)
        app = Guard(make_app(service), access, say if verbose else None)
        serve(app, opened, live, lambda: say(f"serving {service.name} at {url_of(opened)}/v1 (Ctrl-C ends)"))


def access_for(host: str, token: SecretStr | None) -> Access:
    """Raises InputError where strangers could ask without a token."""
    if not is_loopback(host) and token is None:
        raise InputError(
            f"--host {host} lets other machines in, and no token is set",
            f"set {SERVE_TOKEN} to a secret that clients send as their API key, or leave --host out",
        )
    return Access(None if token is None else token.get_secret_value(), loopback_only=is_loopback(host))


COMMANDS = {"serve": serve_model}
