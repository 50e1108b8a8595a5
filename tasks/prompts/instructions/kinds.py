"""The registry of instruction kinds."""

from collections.abc import Iterable

from infra.errors import InputError
from tasks.prompts.instructions.base import Form, Instruction
from tasks.prompts.instructions.content import Language, Options, Placeholders
from tasks.prompts.instructions.keywords import ForbiddenWords, Keyword, KeywordFrequency
from tasks.prompts.instructions.length import MaxWords, MinWords, OneSentence, SentenceCount, ShortSentences
from tasks.prompts.instructions.letters import (
    Capitals,
    CapitalWords,
    Exclamations,
    Highlight,
    LetterFrequency,
    LowerCase,
    NoCommas,
    NoContractions,
    NoDigits,
)
from tasks.prompts.instructions.lines import Bullets, Numbered, QuotedLines, SentenceLines, Steps
from tasks.prompts.instructions.parts import Paragraphs, ParagraphStart, Sections, TwoParts, TwoResponses
from tasks.prompts.instructions.phrases import EndPhrase, Hashtags, Postscript, RepeatRequest, Signature, StartPhrase
from tasks.prompts.instructions.wrapping import AnswerTags, CodeBlock, Heading, Json, Quotes, SquareBrackets, Title

KINDS: dict[str, Instruction] = {
    instruction.kind: instruction
    for instruction in (
        LowerCase(), Capitals(), CapitalWords(), LetterFrequency(), NoCommas(), NoDigits(), NoContractions(),
        Exclamations(), Highlight(),
        Quotes(), SquareBrackets(), AnswerTags(), CodeBlock(), Json(), Title(), Heading(),
        EndPhrase(), StartPhrase(), RepeatRequest(), Postscript(), Signature(), Hashtags(),
        Keyword(), KeywordFrequency(), ForbiddenWords(),
        OneSentence(), SentenceCount(), ShortSentences(), MaxWords(), MinWords(),
        Bullets(), Numbered(), Steps(), QuotedLines(), SentenceLines(),
        TwoParts(), Paragraphs(), ParagraphStart(), Sections(), TwoResponses(),
        Language(), Placeholders(), Options(),
    )
}  # fmt: skip


def instruction(kind: str) -> Instruction:
    """Raises InputError for a kind that nobody registered."""
    if kind not in KINDS:
        raise InputError(f"unknown instruction kind {kind!r}", f"known kinds: {', '.join(sorted(KINDS))}")
    return KINDS[kind]


def kinds_for(form: Form, kinds: Iterable[str]) -> list[str]:
    """Those of the kinds that can be asked in a form."""
    return [kind for kind in kinds if form in instruction(kind).forms]
