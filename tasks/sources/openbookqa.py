"""OpenBookQA: questions of elementary science with four options, written by people (Mihaylov et al., 2018).

    the Hub's:  {"id": "…", "question_stem": "…", "choices": {"text": ["…", …], "label": ["A", …]}, "answerKey": "D"}
    the raw:    {"id": "…", "question": {"stem": "…", "choices": [{"text": "…", "label": "A"}, …]}, "answerKey": "D"}

No licence is stated for the questions. The test split is a benchmark: leave it out of training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.lettered import options_of, question_with, right_option
from tasks.sources.nested import flattened
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user


@register("openbookqa", use="prompts", also=("dialogues",), licence="", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    flat = flattened(record, "question")
    stem = flat.text("question_stem", "question.stem")
    labels, texts = _choices(flat)
    options = options_of(flat, "choices", texts)
    if labels != list(options):
        flat.refuse("choices, labels", labels, f"the letters {', '.join(options)} in order")
    right = flat.text("answerKey")
    if right not in options:
        flat.refuse("answerKey", right, f"one of {', '.join(options)}")
    asked = user(question_with(options, stem))
    if record.use == "dialogues":
        yield dialogue_row(record, [asked, assistant(f"{right}. {options[right]}")])
    else:
        yield prompt_row(record, [asked], verifier=right_option(right, options), task="science")


def _choices(record: Record) -> tuple[list[Any], list[Any]]:
    """Labels and texts, from two lists or from a list of objects."""
    found = record.get("choices", "question.choices")
    if isinstance(found, Mapping) and all(isinstance(found.get(name), list) for name in ("label", "text")):
        return found["label"], found["text"]
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        record.refuse("choices", found, "lists of texts and labels, or a list of objects with both")
    return [item.get("label") for item in found], [item.get("text") for item in found]
