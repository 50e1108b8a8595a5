"""The `ratchet` command: a lazy table of commands, so that `--help` needs none of their imports.

Exit codes: 0 success, 1 failure, 2 bad input, 130 Ctrl-C. Errors are one readable line on stderr; `--debug` adds the
traceback. With `--json` a command that prints data prints one JSON document on stdout and nothing else there.
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any

import click

from infra.errors import InputError, RatchetError, StageFailed

COMMANDS = {
    "run": ("run", "Turn the wheel: run iterations, live, to a verdict and a report."),
    "plan": ("plan", "Show what would run: stages, cached or not; starts nothing."),
    "up": ("stack", "Start the local stack: Prefect, MLflow, Ray."),
    "down": ("stack", "Stop the local stack."),
    "status": ("stack", "Show the local stack's health."),
    "doctor": ("stack", "Check this machine, and say what is missing."),
    "deploy": ("deploy", "Register Prefect deployments with their schedules."),
    "models": ("models", "List the registered models and their aliases."),
    "rollback": ("models", "Go back to the previous generator."),
    "export": ("transfer", "Write a model as a Hugging Face folder, or as one GGUF file."),
    "import": ("transfer", "Bring a Hugging Face folder or a GGUF file into the store and the registry."),
    "data": ("data", "Look at artifacts: ls, show, trace, verify; export them, and clean up."),
    "eval": ("inference", "Examine a model on the evaluation set."),
    "chat": ("inference", "Talk to a model."),
    "serve": ("serve", "Serve a model to OpenAI clients over HTTP."),
    "reward": ("inference", "Score conversations with the reward model."),
    "report": ("report", "Make an iteration's report again and say where it is."),
}


class LazyCommand(click.Command):
    """Stands in for a command until it is called; then its module is imported and takes over."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self.module = module

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        module = importlib.import_module(f"deployments.commands.{self.module}")
        real: click.Command = module.COMMANDS[self.name]
        return real.make_context(info_name, args, parent, **extra)


@click.group(
    commands={name: LazyCommand(name, *entry) for name, entry in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="ratchet")
def cli(debug: bool) -> None:
    """Ratchet: iterative weak-to-strong model alignment. Start with `ratchet run`."""


def error_document(error: RatchetError) -> dict[str, Any]:
    """What `--json` prints for a failure."""
    stage = error.stage if isinstance(error, StageFailed) else ""
    return {"error": {"stage": stage, "message": error.message, "remedy": error.remedy}}


def report_error(error: RatchetError, arguments: list[str]) -> int:
    """One line on stderr (and one document on stdout with --json); returns the exit code."""
    if "--debug" in arguments:
        traceback.print_exc()
    message = " ".join(error.message.split())
    print(f"ratchet: {message}" + (f" — {error.remedy}" if error.remedy else ""), file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps(error_document(error)))
    return error.exit_code


def quiet_libraries(debug: bool) -> None:
    """What libraries read when they are imported: no telemetry, logs of servers to the servers, not the screen.

    Prefect would print the traceback of every task that fails or is stopped; our own line says what happened.
    """
    defaults = {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        # Two threads that spin for each other stand still as soon as a third program wants one of two cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR" if debug else "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command, and end with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quiet_libraries("--debug" in arguments)
    try:
        code = cli.main(args=arguments, prog_name="ratchet", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except RatchetError as error:
        sys.exit(report_error(error, arguments))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except click.UsageError as error:
        hint = f"see `{error.ctx.command_path} --help`" if error.ctx else "see `ratchet --help`"
        sys.exit(report_error(InputError(error.format_message(), hint), arguments))
    except click.ClickException as error:
        sys.exit(report_error(InputError(error.format_message()), arguments))
    except (KeyboardInterrupt, click.Abort):
        print("ratchet: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
