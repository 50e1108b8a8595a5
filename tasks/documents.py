"""Documents that closed questions are about: the bundled passages, and what of a document fits into a prompt."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from tasks.answer_checks import whole_sentences
from tasks.rows import TEXT, make_row

LICENCE = "Apache-2.0"
"""Of the bundled passages, which are part of the project."""


@cache
def bundled_documents() -> list[dict[str, Any]]:
    """Rows of the passages that ship with the project (documents.yaml)."""
    texts = yaml.safe_load((Path(__file__).parent / "documents.yaml").read_text(encoding="utf-8"))
    known = {"source": "documents/bundled", "synthetic": False, "generator": "", "licence": LICENCE}
    return [make_row(TEXT, {"text": text.strip(), **known}, text.strip()) for text in texts]


@dataclass(frozen=True)
class Passage:
    """What of a document goes into a prompt: all of it, or its beginning."""

    text: str
    words: int
    """Of the whole document, counted at spaces."""
    cut: Literal["", "sentence_end", "mid_sentence"]

    def details(self) -> dict[str, Any]:
        """What the row says about it."""
        return {"words": self.words, "kept_words": len(self.text.split()), "cut": self.cut}


def passage(document: str, most_words: int) -> Passage:
    """Up to `most_words`, to the last sentence end among them; through a sentence only where the first is longer."""
    text = document.strip()
    found = [*re.finditer(r"\S+", text)]
    if len(found) <= most_words:
        return Passage(text, len(found), "")
    beginning = text[: found[most_words - 1].end()]
    whole = whole_sentences(beginning)
    return Passage(whole or beginning, len(found), "sentence_end" if whole else "mid_sentence")
