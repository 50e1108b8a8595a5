"""vLLM behind the interface of our own engine, for clusters: it loads the same folders and sees the same token ids.

It is no dependency of ours: see docs/generation.md for how it is installed. Its results depend on the batch in the last
bits, so a stage made with it is not promised the same bytes when it is made again.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from infra.errors import InputError
from models.chat import stop_ids
from models.engine.interface import (
    Completion,
    Constraint,
    FinishReason,
    Progress,
    Prompt,
    Result,
    SamplingParams,
    TokenLogprob,
    one_each,
)
from models.engine.prompts import misfit, prompt_ids
from models.folders import load_config
from models.tokenizer import Tokenizer

INSTALL = "install it where the engines run: see docs/generation.md, vLLM"


class VLLMEngine:
    """One vLLM instance over a model folder, on `tensor_parallel` GPUs of this machine or on its processor."""

    def __init__(self, folder: str | Path, batch_rows: int, tensor_parallel: int, precision: str) -> None:
        """Loads the model, in "fp32", "bf16" or "fp8". Raises InputError where vLLM is not installed."""
        try:
            self._vllm: Any = importlib.import_module("vllm")  # there on some machines only
        except ImportError as error:
            raise InputError(f"the engine vllm cannot be opened: {error}", INSTALL) from error
        self.tokenizer = Tokenizer.load(folder)
        self.config = load_config(folder)
        self._stop_ids = sorted(stop_ids(self.tokenizer, self.config))
        self._llm = self._vllm.LLM(
            str(folder),
            tensor_parallel_size=tensor_parallel,
            max_num_seqs=batch_rows,
            dtype="float32" if precision == "fp32" else "bfloat16",
            quantization="fp8" if precision == "fp8" else None,
            enforce_eager=not torch.cuda.is_available(),  # on a processor vLLM's compiler wants a tool chain
            structured_outputs_config={"backend": "guidance"},
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Result]:
        """One result per prompt, in order; progress is told once, at the end."""
        settings = one_each(len(prompts), params)
        encoded = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        errors = [misfit(self.config, token_ids) for token_ids in encoded]
        asked = [number for number, error in enumerate(errors) if error is None]
        made = self._llm.generate(
            [{"prompt_token_ids": encoded[number]} for number in asked],
            [self._translated(settings[number], len(encoded[number])) for number in asked],
            use_tqdm=False,
        )
        answers = iter(made)
        results = [
            Result.failed(error, one, len(token_ids))
            if error is not None
            else Result(tuple(self._completion(output, one) for output in next(answers).outputs), len(token_ids))
            for token_ids, one, error in zip(encoded, settings, errors, strict=True)
        ]
        if on_progress is not None:
            rows = sum(one.n for one in settings)
            on_progress(rows, rows, sum(len(output.token_ids) for result in results for output in result.outputs))
        return results

    def logprobs(
        self, prompts_ids: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """The log-probability of each token of each continuation, given its prompt and the tokens before it."""
        texts = [[*prompt, *continuation] for prompt, continuation in zip(prompts_ids, continuations, strict=True)]
        read = self._llm.generate(
            [{"prompt_token_ids": text} for text in texts],
            self._vllm.SamplingParams(max_tokens=1, prompt_logprobs=0),
            use_tqdm=False,
        )
        return [
            [entry[token].logprob for token, entry in zip(text[first:], output.prompt_logprobs[first:], strict=True)]
            for text, output, first in zip(texts, read, map(len, prompts_ids), strict=True)
        ]

    def _translated(self, params: SamplingParams, prompt: int) -> Any:
        return self._vllm.SamplingParams(
            n=params.n,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            max_tokens=min(params.max_tokens, self.config.max_positions - prompt),
            stop=list(params.stop),
            stop_token_ids=sorted({*self._stop_ids, *params.stop_token_ids}),
            seed=params.seed % 2**63,
            logprobs=params.logprobs,
            structured_outputs=_structured(params.constraint),
        )

    def _completion(self, output: Any, params: SamplingParams) -> Completion:
        """Theirs as ours: without the stop token, and of a stop text without the tokens that reach into it."""
        token_ids = list(output.token_ids)
        if token_ids and token_ids[-1] in {*self._stop_ids, *params.stop_token_ids}:
            token_ids.pop()
        if isinstance(output.stop_reason, str):
            while not output.text.startswith(self.tokenizer.decode(token_ids)):
                token_ids.pop()
        reason: FinishReason = "length" if output.finish_reason == "length" else "stop"
        logprobs = None
        if params.logprobs is not None:
            found = zip(token_ids, output.logprobs, strict=False)
            logprobs = tuple(_token_logprob(token, entry, params.logprobs) for token, entry in found)
        return Completion(output.text, tuple(token_ids), reason, logprobs)


def _token_logprob(token: int, entry: Mapping[int, Any], most: int) -> TokenLogprob:
    ranked = sorted(entry.items(), key=lambda item: item[1].rank)[:most]
    return TokenLogprob(token, entry[token].logprob, tuple((other, found.logprob) for other, found in ranked))


def _structured(constraint: Constraint | None) -> Any:
    if constraint is None:
        return None
    fields = {"choice": "choice", "regex": "regex", "json_schema": "json", "lark": "grammar"}
    value = json.loads(constraint.text) if constraint.kind in ("choice", "json_schema") else constraint.text
    theirs: Any = importlib.import_module("vllm.sampling_params")
    return theirs.StructuredOutputsParams(**{fields[constraint.kind]: value})
