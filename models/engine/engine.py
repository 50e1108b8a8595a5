"""Our own engine: continuous batching over a key/value cache, on one device.

A row's result depends on its prompt, its settings and its seed, never on what it was batched with: on a CPU in fp32 to
the last bit.
"""

from collections.abc import Mapping, Sequence

import torch

from models.chat import encode_prompt, stop_ids
from models.decoder import Decoder
from models.engine.generation import Generation, Limits
from models.engine.interface import Completion, Progress, Prompt, Result, SamplingParams
from models.engine.rows import Ending, PromptState, Row
from models.engine.scoring import score
from models.tokenizer import Tokenizer

GIB = 2**30


class Engine:
    """Generates with one model and scores with it. Holds no state between calls."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        max_rows: int = 64,
        prefill_tokens: int = 1024,
        cache_bytes: int = 4 * GIB,
    ) -> None:
        """`max_rows`, `prefill_tokens` (of a step) and `cache_bytes` bound memory and steer speed, never results.

        A single row may exceed `cache_bytes`, up to the model's context. Raises ValueError for values below 1.
        """
        for name, value in (("max_rows", max_rows), ("prefill_tokens", prefill_tokens), ("cache_bytes", cache_bytes)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        config = model.config
        self.model = model
        self.tokenizer = tokenizer
        token_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * model.unembedding_VD.itemsize
        self.limits = Limits(max_rows, prefill_tokens, cache_bytes // token_bytes)
        added = tokenizer.backend.get_added_tokens_decoder()
        self.ending = Ending(
            tokenizer=tokenizer,
            stop_ids=frozenset(stop_ids(tokenizer, config)),
            hidden_ids=frozenset(token_id for token_id, token in added.items() if token.special),
            max_positions=config.max_positions,
        )

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Result]:
        """One result per prompt, in order; `params` are one for all or one per prompt.

        A prompt that cannot be answered (too long, empty, unknown tokens) gets a result with `error`. Raises ValueError
        for a conversation that the chat template refuses and for another number of params than of prompts.
        """
        settings = self._settings(len(prompts), params)
        encoded = [self._encode(prompt) for prompt in prompts]
        errors = [self._refusal(token_ids) for token_ids in encoded]
        rows: list[list[Row]] = []
        for token_ids, one, error in zip(encoded, settings, errors, strict=True):
            prompt = PromptState(token_ids, unstarted=one.n)
            rows.append([] if error else [Row(prompt, one, self.ending, sample) for sample in range(one.n)])
        self._run([row for group in rows for row in group], sum(one.n for one in settings), on_progress)
        return [_result(*parts) for parts in zip(rows, encoded, settings, errors, strict=True)]

    @torch.inference_mode()
    def logprobs(
        self, prompts_ids: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """The log-probability of each token of each continuation, given its prompt and the tokens before it.

        Raises ValueError for an empty prompt, unknown tokens, and a pair longer than the model's context.
        """
        if len(prompts_ids) != len(continuations):
            raise ValueError(f"{len(continuations)} continuations for {len(prompts_ids)} prompts; expected as many")
        for number, (prompt, continuation) in enumerate(zip(prompts_ids, continuations, strict=True)):
            error = self._refusal(prompt, continuation)
            if error:
                raise ValueError(f"pair {number} cannot be scored: {error}")
        return score(self.model, prompts_ids, continuations, self.limits.prefill_tokens)

    def _settings(
        self, prompts: int, params: SamplingParams | Sequence[SamplingParams] | None
    ) -> Sequence[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            return [params or SamplingParams()] * prompts
        if len(params) != prompts:
            raise ValueError(f"{len(params)} sampling params for {prompts} prompts; expected one, or one per prompt")
        return params

    def _encode(self, prompt: Prompt) -> list[int]:
        messages = [part for part in prompt if isinstance(part, Mapping)]
        if messages:
            return encode_prompt(self.tokenizer, messages)
        return [int(token) for token in prompt if not isinstance(token, Mapping)]

    def _refusal(self, prompt: Sequence[int], continuation: Sequence[int] = ()) -> str | None:
        """Why these tokens cannot be run, None if they can."""
        config = self.model.config
        if not prompt:
            return "the prompt is empty; expected at least one token"
        unknown = next((token for token in (*prompt, *continuation) if not config.has_token(token)), None)
        if unknown is not None:
            return f"token id {unknown} lies outside the model's vocabulary of {config.vocab_size}"
        room = config.max_positions if continuation else config.max_positions - 1
        if len(prompt) + len(continuation) > room:
            return f"{len(prompt) + len(continuation)} tokens do not fit the model's context of {config.max_positions}"
        return None

    def _run(self, rows: list[Row], total: int, on_progress: Progress | None) -> None:
        # The rows that may take longest go first, so that few are left alone at the end.
        longest_first = sorted(rows, key=lambda row: -row.params.max_tokens)
        done = total - len(rows)
        for finished in (generation := Generation(self.model, longest_first, self.limits)).run():
            done += len(finished)
            if on_progress is not None:
                on_progress(done, total, generation.generated)
        if on_progress is not None and not rows:
            on_progress(total, total, 0)


def _result(rows: Sequence[Row], token_ids: Sequence[int], params: SamplingParams, error: str | None) -> Result:
    outputs = tuple(row.completion for row in rows if row.completion is not None)
    return Result(outputs or (Completion("", (), "error"),) * params.n, len(token_ids), error)
