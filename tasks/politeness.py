"""Takes the politeness off a user's turn: thanks, praise, greetings and offers to help around what the user wants.

"Okay thanks, that's really helpful! One more thing: how hot should it be?"  →  "How hot should it be?"
"Thank you letters: how do I write one?"  stays: it is thanks only where a clause ends after it.
"""

import re
from typing import Any

import yaml

from tasks.configs.dialogues import WORDS_FILE

_DATA: dict[str, Any] = yaml.safe_load(WORDS_FILE.read_text(encoding="utf-8"))


def _one_of(name: str) -> str:
    return "(?:" + _DATA["polite"][name].replace("\n", "|") + ")"


_THANKS, _GREETING, _ACKNOWLEDGED, _ENDING = map(_one_of, ("thanks", "greetings", "acknowledged", "endings"))
_ADJECTIVE, _NOUN, _DEGREES = _one_of("adjectives"), _one_of("nouns"), rf"(?: {_one_of('degrees')})*"
_VERY = r"(?: (?:a|an|the|all|such|very|really|so|quite|pretty|truly|just|absolutely|extremely|super|some|also))*"

_EMOJI = "(?:[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d]|[:;]-?[)D]|<3)"
_MARK = rf"(?:\s*(?:{_EMOJI}|[.!?,;:…。！？、~]))"
_DASH = r"(?:\s+[-–—]+\s+|—)"
_END = rf"(?:(?:{_MARK}+{_DASH}?|{_DASH})\s*|\s*$)"
"""Where the clause ends."""
_ONWARDS = "|".join(re.escape(word) for name in ("asking", "requests") for word in _DATA["first_words"][name].split())
_NEXT = rf"(?:(?:\s*[,;:]|{_DASH})\s*(?=(?:{_ONWARDS})\s+\w)|\s+(?=but\b))"
"""Where the user goes on to what is wanted."""
_REST = rf"[^.!?…\n]*?(?:\s*(?:[.!…]|{_EMOJI})+\s*|{_NEXT}|\s*$)"
"""To the end of a sentence that asks nothing, or to where it does."""
_SUBJECT = r"(?:that|this|it|these|those|they|you|everything|your \w+)(?:'s|'re| is| are| was| were| sounds?| looks?)"

_THANKED = rf"¡?{_THANKS}{_DEGREES}(?:{_END}| for\b{_REST})"
_ADMIRED = "|".join(
    (
        rf"{_SUBJECT}{_VERY} {_ADJECTIVE}(?:(?: and|,)? {_ADJECTIVE})?(?: {_NOUN})*{_DEGREES}"
        rf"(?: to (?:know|hear|see))?{_END}",
        rf"(?:that|this)(?:'s| is| was){_VERY} {_ADJECTIVE} {_NOUN}\b{_REST}",
        rf"what(?: an?)?{_VERY} {_ADJECTIVE}(?: [\w-]+){{0,3}}(?:\s*(?:[.!…]|{_EMOJI}))+\s*",
        rf"(?:(?:very|really|so|such|super|quite) )*(?:an? )?{_ADJECTIVE} {_NOUN}{_DEGREES}"
        rf"(?:{_END}| (?:about|on|of)\b(?![^.!?\n]*\bplease\b){_REST})",
        rf"(?:very|really|so|super) {_ADJECTIVE}{_END}",
        rf"(?:that|this) (?:really |already |certainly )?(?:helps|helped|clears (?:it|that|things) up|"
        rf"answers my question)(?: me)?{_DEGREES}{_END}",
        rf"you (?:explained|answered|did|put) (?:it|that|this)? ?(?:very |really |so )?(?:well|nicely|clearly){_END}",
        rf"i (?:really |truly |just )?(?:love|like|loved|liked|enjoyed) (?:(?:it|this|that){_DEGREES}{_END}|"
        rf"(?:your|the|these|those|that|this) {_NOUN}\b{_REST})",
        rf"i (?:really |truly |do )?appreciate (?:it|this|that|your?|the)\b{_REST}",
        rf"i(?:'m| am)(?: so| very| really)? (?:glad|happy|pleased|grateful|thankful|impressed)"
        rf"(?: to (?:hear|know|see|learn)\b| that\b| you\b| i\b| for\b| with your\b){_REST}",
        rf"(?:it(?:'s| is| was) |it's been )?(?:{_ADJECTIVE}|a pleasure)"
        rf" (?:to (?:know|hear|talk|chat|meet)|talking|chatting)\b{_REST}",
    )
)
_OFFERED = "|".join(
    (
        r"(?:i'd|i would|i'll|i will|i'm|i am|we'd|we would)(?: be)?(?: more than| very| always| so)?"
        r" (?:happy|glad|pleased|delighted) to\b[^.!?:\n]*[.!?:\s]*",
        r"(?:i can|i'll|i will|let me|i'm here to|i am here to|(?:happy|glad|here) to)(?: certainly| gladly)?"
        rf" (?:help|assist)(?: you)?(?: out)?(?: with (?:that|this|it))?(?: today)?{_END}",
        rf"(?:i'm |i am )?(?:happy|glad) (?:i|that i) could (?:help|assist){_END}",
    )
)
_LEADING = [
    re.compile("^(?:" + unit.replace(" ", r"\s+") + ")", re.IGNORECASE)
    for unit in (
        _THANKED,
        rf"(?:{_ACKNOWLEDGED} )*{_ACKNOWLEDGED}{_DEGREES}(?:{_END}|\s+(?=(?:but|so)\b|{_THANKS}\b))",
        rf"{_GREETING}{_DEGREES}{_END}",
        _ADMIRED,
        _OFFERED,
        rf"{_ENDING}{_END}$",
        rf"{_EMOJI}+\s*",
    )
]
_TRAILING = [
    re.compile(unit.replace(" ", r"\s+"), re.IGNORECASE)
    for unit in (
        rf"(?<=[.!?…])\s+(?:(?:and|ok|okay|great),? )?(?:{_THANKED}|{_ADMIRED}|{_ENDING}{_MARK}*\s*)$",
        rf"\s*(?:,|{_DASH})\s*{_THANKS}{_DEGREES}(?=[.!?]*$)",
        rf"\s*{_EMOJI}+$",
    )
]
_LABEL = re.compile(r"^(?:user|human|me|customer|(?:my |follow-?up )?question)\s*[:：]\s*", re.IGNORECASE)


def strip_politeness(text: str) -> str:
    """Without thanks, praise and offers to help around what the user wants; "" where nothing else was said."""
    before, text = None, _LABEL.sub("", text.strip().strip('"“”').strip()).replace("’", "'")
    while text != before:
        before = text
        for pattern in (*_LEADING, *_TRAILING):
            text = pattern.sub("", text).strip()
    return text[:1].upper() + text[1:]
