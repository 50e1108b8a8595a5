"""What every generator with a tokenizer does with its prompts before it writes."""

from collections.abc import Mapping, Sequence

from models.chat import encode_prompt
from models.config import ModelConfig
from models.engine.interface import Prompt
from models.tokenizer import Tokenizer


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """Token ids of a conversation; token ids as they are. Raises ValueError where the chat template refuses."""
    messages = [part for part in prompt if isinstance(part, Mapping)]
    if messages:
        return encode_prompt(tokenizer, messages)
    return [int(token) for token in prompt if not isinstance(token, Mapping)]


def misfit(config: ModelConfig, prompt: Sequence[int], continuation: Sequence[int] = ()) -> str | None:
    """Why the model cannot read these tokens, and write one where there is no continuation; None if it can."""
    if not prompt:
        return "the prompt is empty; expected at least one token"
    unknown = next((token for token in (*prompt, *continuation) if not config.has_token(token)), None)
    if unknown is not None:
        return f"token id {unknown} lies outside the model's vocabulary of {config.vocab_size}"
    length = len(prompt) + len(continuation)
    if length > config.max_positions - (not continuation):
        return f"{length} tokens do not fit the model's context of {config.max_positions}"
    return None
