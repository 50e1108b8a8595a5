"""A hosted model becomes a checkpoint artifact that holds its address. Nothing is asked: `open_engine` speaks to it."""

from infra.output import Outcome, Output
from tasks.configs.endpoint_model import ENDPOINT_FILE, EndpointModelConfig

UNKNOWN = "unknown"
"""Stated as the licence, so that rows and models made from it say that it is not known."""


def run(config: EndpointModelConfig, output: Output) -> Outcome:
    """endpoint.json: URL, name and revision; the key stays in the environment of whoever asks."""
    output.write_json(ENDPOINT_FILE, {"url": config.url, "model": config.model, "revision": config.revision})
    return Outcome(
        result={
            "hosted": True,
            "licence": config.licence or UNKNOWN,
            "name": config.model,
            "url": config.url,
            "revision": config.revision,
        }
    )
