"""How sampling params are told to /chat/completions: in fields of OpenAI's API, and of vLLM's where it has none.

A field with its usual value is left out, for some servers refuse even that.
"""

import json
from typing import Any

from models.engine import Constraint, SamplingParams
from tasks.configs.base import EndpointResources
from tasks.engines.conversations import Messages, conversation

SEEDS = 1 << 63
"""A seed has to fit a signed number of 64 bits."""


def request_body(
    model: str, messages: Messages, params: SamplingParams, settings: EndpointResources, skip: int = 0
) -> dict[str, Any]:
    """The body for up to `params.n` samples, of which `skip` were given before."""
    body = {
        "model": model,
        **conversation(messages, settings),
        settings.token_limit: params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": (params.seed + skip) % SEEDS,
        **unusual(params, min(params.n - skip, settings.samples_per_request)),
        **constrained(params.constraint),
    }
    return {name: value for name, value in body.items() if name not in settings.leave_out}


def unusual(params: SamplingParams, n: int) -> dict[str, Any]:
    """Fields whose value is not the one that every server has anyway."""
    fields: dict[str, tuple[Any, bool]] = {
        "n": (n, n > 1),
        "stop": ([*params.stop], bool(params.stop)),
        "top_k": (params.top_k, params.top_k > 0),
        "min_p": (params.min_p, params.min_p > 0),
        "repetition_penalty": (params.repetition_penalty, params.repetition_penalty != 1),
        "stop_token_ids": ([*params.stop_token_ids], bool(params.stop_token_ids)),
        "logprobs": (True, params.logprobs is not None),
        "top_logprobs": (params.logprobs, bool(params.logprobs)),
    }
    return {name: value for name, (value, is_set) in fields.items() if is_set}


def constrained(constraint: Constraint | None) -> dict[str, Any]:
    """OpenAI's response_format for a schema, vLLM's structured_outputs for the rest."""
    if constraint is None:
        return {}
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "schema": json.loads(constraint.text), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    name = {"lark": "grammar"}.get(constraint.kind, constraint.kind)
    return {"structured_outputs": {name: json.loads(constraint.text) if name == "choice" else constraint.text}}


def most_bytes(params: SamplingParams) -> int:
    """Largest answer that is read. A token has up to about 16 characters, six bytes each where JSON escapes them."""
    per_token = 128 + (0 if params.logprobs is None else 512 * (1 + params.logprobs))
    return (1 << 20) + params.n * params.max_tokens * per_token
