"""What clients may send: OpenAI's fields that we know, vLLM's common extras, and what of the rest does no harm.

A field that would change the answer and that nothing here obeys is refused, never passed over.
"""

import secrets
from typing import Any, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from deployments.server.errors import ApiError, refused
from deployments.server.shapes import GUIDED, constraint_of
from models.engine import SamplingParams

IGNORED = {"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
           "prediction", "parallel_tool_calls", "request_id", "priority"}  # fmt: skip
"""Fields that change no answer, whatever they hold."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "audio": (), "modalities": (["text"],), "web_search_options": (), "reasoning_effort": ("none",),
    "verbosity": ("medium",), "store": (False,), "logit_bias": ({},), "presence_penalty": (0,),
    "frequency_penalty": (0,), "suffix": ("",), "best_of": (1,), "min_tokens": (0,), "ignore_eos": (False,),
    "use_beam_search": (False,), "length_penalty": (1,), "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (True, False), "prompt_logprobs": (),
    "truncate_prompt_tokens": (), "return_tokens_as_token_ids": (False,), "allowed_token_ids": (), "bad_words": ([],),
    "logits_processors": ([],), "chat_template": (), "chat_template_kwargs": ({},), "documents": ([],),
    "guided_decoding_backend": (), "guided_whitespace_pattern": (),
}  # fmt: skip
"""Fields that nothing here obeys, with the values that ask for nothing; null is one of them."""
MOST_STOPS, LONGEST_STOP = 64, 1000
"""Stop texts, and characters of one."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool = False


class Body(BaseModel):
    """What both kinds of completions have; every field may be null, which is the same as not given."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = Field(default=None, max_length=1024)
    seed: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @property
    def samples(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def usage_streamed(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def params(self, max_tokens: int, logprobs: int | None) -> SamplingParams:
        """How each prompt is answered; a seed is drawn where none is given. Raises ApiError for values out of range."""
        guided = {name: getattr(self, name) for name in GUIDED}
        given = {
            "temperature": self.temperature, "top_p": self.top_p, "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty, "n": self.n, "stop": self.stop,
            # vLLM writes "all" as -1
            "top_k": 0 if self.top_k == -1 else self.top_k, "stop_token_ids": self.stop_token_ids,
            "constraint": constraint_of(self.response_format, self.structured_outputs, guided),
            "seed": secrets.randbits(63) if self.seed is None else self.seed,
        }  # fmt: skip
        try:
            given = {name: value for name, value in given.items() if value is not None}
            return SamplingParams(**given, max_tokens=max_tokens, logprobs=logprobs)
        except ValueError as error:
            raise refused(str(error), str(error).partition(" ")[0]) from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in IGNORED or (name in NEUTRAL and (value is None or value in NEUTRAL[name])):
                continue
            if name in NEUTRAL:
                raise refused(f"{name} is not supported by this server", name, "unsupported_parameter")
            raise refused(f"unrecognized request argument: {name[:100]}", name[:100], "unknown_parameter")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MOST_STOPS or any(len(stop) > LONGEST_STOP for stop in stops):
            raise refused(f"expected at most {MOST_STOPS} stop texts of at most {LONGEST_STOP} characters", "stop")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise refused(f"seed is {self.seed}; expected a number of 64 bits", "seed")
        return self


class ChatBody(Body):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None


class CompletionBody(Body):
    prompt: Any = None
    """A text, a list of texts, token ids, or a list of lists of token ids."""
    echo: bool | None = None
    logprobs: int | None = None
    add_special_tokens: bool | None = None
    """Whether a text gets the tokens that the tokenizer puts around every text, such as BOS; yes by default."""


Kind = TypeVar("Kind", bound=Body)


async def read_body(request: Request, kind: type[Kind], max_bytes: int) -> Kind:
    """The request's body. Raises ApiError for one that is no JSON, too large, or has fields that cannot be obeyed."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, f"Content-Type is {content_type[:100]!r}; expected application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > max_bytes:
            raise ApiError(413, f"the request is larger than {max_bytes} bytes", code="request_too_large")
    try:
        return kind.model_validate(from_json(bytes(content), allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"][:1]) or None
        raise refused(f"{param or 'the body'}: {first['msg']}", param) from error
    except ValueError as error:
        raise refused(f"the body is no JSON: {error}") from error
