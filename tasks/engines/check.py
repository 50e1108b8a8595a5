"""Whether a hosted model answers, found with one token before anything else starts. Loads no torch."""

import asyncio
from typing import Any

import httpx

from infra.errors import InputError, ServiceError
from infra.settings import openai_api_key
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.engines.conversations import CHAT, Messages, conversation
from tasks.engines.refusals import Garbled, RowRefused
from tasks.engines.transport import GivenUp, Transport

GREETING: Messages = ({"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello"})
"""Is gone on with, as most stages ask."""
ATTEMPTS = 2
MOST_BYTES = 1 << 20


def check_model(model: EndpointModelConfig, settings: EndpointResources) -> None:
    """Raises InputError for a wrong key, URL or model, StageFailed for a setting that the server refuses, and
    ServiceError where nobody answers. A server that is merely busy passes.
    """
    transport = Transport(model.url, model.model, openai_api_key(), settings)
    fields = {"model": model.model, **conversation(GREETING, settings), settings.token_limit: 1, "temperature": 1.0,
              "top_p": 1.0, "seed": 0}  # fmt: skip
    body = {name: value for name, value in fields.items() if name not in settings.leave_out}

    async def ask() -> None:
        async with transport.client() as client:
            await transport.post(client, CHAT, body, MOST_BYTES, expect_choices, ATTEMPTS)

    try:
        asyncio.run(ask())
    except RowRefused as error:
        raise InputError(f"{model.url}: {error}", "give an endpoint for chat completions") from error
    except GivenUp as error:
        if error.status != httpx.codes.TOO_MANY_REQUESTS:
            raise ServiceError(str(error), "start that server, or correct the URL and the network") from error


def expect_choices(document: Any) -> None:
    if not isinstance(document, dict) or not document.get("choices"):
        raise Garbled(f"no choices: {str(document)[:80]!r}")
