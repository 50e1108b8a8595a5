"""How likely a model is to say each of two words next: what the judges read their verdicts off."""

from collections.abc import Mapping, Sequence

from infra.errors import InputError
from models.chat import encode_prompt
from models.engine import Generator
from models.tokenizer import Tokenizer
from tasks.engines.abilities import NoLogprobs, Scoring, WordScoring

Messages = Sequence[Mapping[str, str]]


def word_logprobs(
    engine: Generator, conversations: Sequence[Messages], words: Sequence[str], remedy: str
) -> list[tuple[float, ...] | None]:
    """The words' log-probabilities after each conversation, which ends where a word is due; None where it is too long.

    `words` are as they follow the conversation's last characters. Raises InputError, with `remedy`, where the model
    cannot tell them apart, and NoLogprobs where it tells no log-probabilities at all.
    """
    if isinstance(engine, WordScoring):
        return engine.word_logprobs(conversations, words)
    if not isinstance(engine, Scoring):
        raise NoLogprobs(f"{type(engine).__name__} tells no log-probabilities")
    choices = word_ids(engine.tokenizer, words, remedy)
    prompts = [encode_prompt(engine.tokenizer, conversation) for conversation in conversations]
    room = engine.config.max_positions - max(map(len, choices))
    fits = [len(prompt) <= room for prompt in prompts]
    asked = [(prompt, choice) for prompt, fit in zip(prompts, fits, strict=True) if fit for choice in choices]
    scores = iter(engine.logprobs([prompt for prompt, _ in asked], [choice for _, choice in asked]))
    return [tuple(sum(next(scores)) for _ in choices) if fit else None for fit in fits]


def word_ids(tokenizer: Tokenizer, words: Sequence[str], remedy: str) -> list[list[int]]:
    """Token ids of each word. Raises InputError where the tokenizer does not give back two different words."""
    ids = [tokenizer.encode(word) for word in words]
    spelled = [tokenizer.decode(one) for one in ids]
    told_apart = len(words) == 2 and ids[0] != ids[1]
    if not told_apart or [word.strip() for word in spelled] != [word.strip() for word in words]:
        raise InputError(
            f"the judge's tokenizer reads the words {list(words)} as {spelled}; expected two words that it can tell "
            "apart",
            remedy,
        )
    return ids
