"""Splitting prose into sentences and words, the way the instruction checks and the quality filters count them."""

import re

_ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "vs.", "Dr.", "Mr.", "Mrs.", "Ms.", "St.", "U.S.", "U.K.", "a.m.", "p.m.")
_BOUNDARY = re.compile(r"""(?<=[.!?])["”')\]]*\s+(?=["“'(\[]*[A-Z0-9a-z])|\n+""")
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


def words(text: str) -> list[str]:
    """Words of any script, hyphens and apostrophes kept inside; punctuation and digits-only marks left out."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Sentences in order with their end marks. A line break ends one, an abbreviation's or a list's dot doesn't."""
    parts: list[str] = []
    for piece in _pieces(text.strip()):
        if parts and (parts[-1].endswith(_ABBREVIATIONS) or re.fullmatch(r"\d{1,2}\.", parts[-1])):
            parts[-1] += " " + piece
        else:
            parts.append(piece)
    return parts


def _pieces(text: str) -> list[str]:
    pieces, start = [], 0
    for boundary in _BOUNDARY.finditer(text):
        end = boundary.start() + len(boundary.group().rstrip())
        pieces.append(text[start:end].strip())
        start = boundary.end()
    return [piece for piece in [*pieces, text[start:].strip()] if piece]
