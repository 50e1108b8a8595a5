"""Our own engine: continuous batching over a key/value cache with shared prefixes, on one device.

A row's result depends on its prompt, its settings and its seed, never on what it was batched with: on a CPU in fp32 to
the last bit.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.chat import stop_ids
from models.decoder import Decoder
from models.engine.cache import capacity_for
from models.engine.interface import Progress, Prompt, Result, SamplingParams, one_each
from models.engine.memory import cache_token_bytes, default_cache_bytes
from models.engine.packed import can_pack, pack
from models.engine.prefixes import as_array, tiled
from models.engine.prompts import misfit, prompt_ids
from models.engine.rows import Ending, Reading, Row, longest
from models.engine.scheduler import Limits, Scheduler, Work
from models.engine.scoring import Scoring
from models.tokenizer import Tokenizer


class Engine:
    """Generates with one model and scores with it. Keeps prompts between calls, which makes later ones faster."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        max_rows: int = 128,
        prefill_tokens: int = 1024,
        cache_bytes: int | None = None,
        share_prefixes: bool = True,
    ) -> None:
        """All but the model and its tokenizer steer speed and bound memory, never results.

        `max_rows` run at once, `prefill_tokens` of prompts are read in a step, `cache_bytes` hold keys and values: half
        of what is free where it is None. Raises ValueError for values below 1.
        """
        config, weight = model.config, model.unembedding_VD
        if cache_bytes is None:
            cache_bytes = default_cache_bytes(weight.device)
        for name, value in (("max_rows", max_rows), ("prefill_tokens", prefill_tokens), ("cache_bytes", cache_bytes)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        self.config = config
        self.tokenizer = tokenizer
        tokens = cache_bytes // cache_token_bytes(config, weight.itemsize)
        self.limits = Limits(max_rows, prefill_tokens, tokens, share_prefixes)
        self.scheduler = Scheduler(pack(model) if can_pack(model) else model, self.limits)
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
        settings = one_each(len(prompts), params)
        encoded = [self.encode(prompt) for prompt in prompts]
        errors = [self.refusal(*pair) for pair in zip(encoded, settings, strict=True)]
        rows = [
            [] if error else self.rows(token_ids, one)
            for token_ids, one, error in zip(encoded, settings, errors, strict=True)
        ]
        total = sum(one.n for one in settings)
        # The rows that may take longest go first, so that few are left alone at the end.
        longest_first = sorted((row for group in rows for row in group), key=lambda row: -row.params.max_tokens)
        done, before = total - len(longest_first), self.scheduler.generated
        for finished in self._run(longest_first):
            done += finished
            if on_progress is not None:
                on_progress(done, total, self.scheduler.generated - before)
        if on_progress is not None and not longest_first:
            on_progress(total, total, 0)
        return [_result(*parts) for parts in zip(rows, encoded, settings, errors, strict=True)]

    def rows(self, token_ids: Sequence[int], params: SamplingParams) -> list[Row]:
        """The samples of one prompt. Raises ValueError for a constraint that cannot be read."""
        return [Row(token_ids, params, self.ending, sample) for sample in range(params.n)]

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
            error = misfit(self.config, prompt, continuation)
            if error:
                raise ValueError(f"pair {number} cannot be scored: {error}")
        scoring = Scoring(prompts_ids, continuations, self.scheduler.unembed)
        for _ in self._run(scoring.readings):
            pass
        return scoring.scores

    def embed(self, texts_ids: Sequence[Sequence[int]]) -> Tensor:
        """The final hidden state of each text's last token, [N, D] for N texts.

        Raises ValueError for an empty text, unknown tokens, and a text longer than the model's context.
        """
        found: list[list[Tensor]] = [[] for _ in texts_ids]
        readings = []
        for number, (token_ids, parts) in enumerate(zip(texts_ids, found, strict=True)):
            error = (
                misfit(self.config, token_ids[:-1], token_ids[-1:])
                if len(token_ids) > 1
                else misfit(self.config, token_ids)
            )
            if error:
                raise ValueError(f"text {number} cannot be read: {error}")
            readings.append(Reading(as_array(token_ids), len(token_ids) - 1, parts.append))
        with torch.inference_mode():
            for _ in self._run(readings):
                pass
        # Outside of inference mode, so that a head can be trained on what is returned.
        return torch.cat([parts[0] for parts in found]) if found else torch.empty(0, self.config.hidden_size)

    def _run(self, work: Sequence[Work]) -> Iterator[int]:
        """Do it all; yields how much of it each step finished. What is left after an exception is forgotten."""
        self.scheduler.submit(work)
        try:
            while not self.scheduler.idle:
                yield len(self.scheduler.step())
        finally:
            for one in work if not self.scheduler.idle else ():
                self.scheduler.cancel(one)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a conversation; token ids as they are. Raises ValueError where the chat template refuses."""
        return prompt_ids(self.tokenizer, prompt)

    def refusal(self, prompt: Sequence[int], params: SamplingParams) -> str | None:
        """Why this prompt cannot be answered, None if it can."""
        if error := misfit(self.config, prompt):
            return error
        needed = tiled(len(prompt)) + capacity_for(longest(len(prompt), params, self.ending))
        if needed > self.limits.cache_tokens:
            return (
                f"{len(prompt)} tokens of prompt and {params.max_tokens} of answer need {needed} tokens of cache; "
                f"there is room for {self.limits.cache_tokens}"
            )
        return None


def _result(rows: Sequence[Row], token_ids: Sequence[int], params: SamplingParams, error: str | None) -> Result:
    if error is not None:
        return Result.failed(error, params, len(token_ids))
    return Result(tuple(row.completion for row in rows if row.completion is not None), len(token_ids))
