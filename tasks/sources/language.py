"""Which language a text is in, told from its letters alone, or from the name that a data set gives it."""

from py3langid.langid import classify

SAMPLE_CHARS = 600
"""Enough to tell by; the time that it takes grows with the length."""
NAMES = {
    "arabic": "ar", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr", "czech": "cs",
    "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr", "german": "de",
    "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id", "italian": "it",
    "japanese": "ja", "korean": "ko", "latvian": "lv", "lithuanian": "lt", "malay": "ms", "norwegian": "no",
    "persian": "fa", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "serbian": "sr",
    "slovak": "sk", "slovenian": "sl", "spanish": "es", "swedish": "sv", "thai": "th", "turkish": "tr",
    "ukrainian": "uk", "vietnamese": "vi",
}  # fmt: skip


def language_of(text: str) -> str:
    """ISO 639-1 code of the likeliest language of the text's beginning; there is always one."""
    return str(classify(text[:SAMPLE_CHARS])[0])


def language_code(name: str) -> str:
    """ISO 639-1 code of an English name or of a code; "" where it is unknown."""
    folded = name.strip().lower()
    return folded if folded in NAMES.values() else NAMES.get(folded, "")
