"""What makes an answer unfit for training, told from its text alone: cut off, running in circles, copied."""

import re

from tasks.prompts.sentences import sentences, words

_SENTENCE_END = re.compile(r"[.!?][\"”')\]*]*(?=\s|$)")
_NO_END = re.compile(r"(?:^|\s)(?:\d{1,2}|[A-Za-z]|e\.g|i\.e|etc|vs|Dr|Mr|Mrs|Ms|St)\.$")

CIRCLE_WORDS = 4
"""Length of the word sequences whose repetition gives a text away that runs in circles."""
DISTINCT_SHARE = 0.8
"""A text with a smaller part of distinct sequences runs in circles; prose has more than 0.95, lists about 0.9."""


def whole_sentences(text: str) -> str:
    """The text up to its last sentence end, "" where it has none; a list number or an abbreviation ends nothing."""
    for end in reversed(list(_SENTENCE_END.finditer(text))):
        kept = text[: end.end()]
        if not _NO_END.search(kept):
            return kept
    return ""


def runs_in_circles(text: str) -> bool:
    """Whether the same words come again and again, or a whole sentence a second time."""
    whole = [" ".join(words(sentence)).casefold() for sentence in sentences(text)]
    long = [sentence for sentence in whole if sentence.count(" ") >= CIRCLE_WORDS]
    if len(set(long)) < len(long):
        return True
    said = [word.casefold() for word in words(text)]
    sequences = [tuple(said[start : start + CIRCLE_WORDS]) for start in range(len(said) - CIRCLE_WORDS + 1)]
    return len(sequences) >= 2 * CIRCLE_WORDS and len(set(sequences)) < DISTINCT_SHARE * len(sequences)


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the texts' words, 0 to 1; case and punctuation never count."""
    a, b = ({word.casefold() for word in words(text)} for text in (first, second))
    return len(a & b) / max(1, len(a | b))


def copied_share(text: str, source: str, length: int = 4) -> float:
    """Part of the text's word sequences of this length that stand in `source` too; 0 for a shorter text."""
    said, theirs = ([word.casefold() for word in words(part)] for part in (text, source))
    known = {tuple(theirs[start : start + length]) for start in range(len(theirs) - length + 1)}
    sequences = [tuple(said[start : start + length]) for start in range(len(said) - length + 1)]
    return sum(sequence in known for sequence in sequences) / max(1, len(sequences))
