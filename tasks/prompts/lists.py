"""Lists out of free text: numbered, bulleted, YAML or JSON; nothing that the text itself does not say."""

import re

import yaml

_ITEM = re.compile(r"^\s*(?:\d{1,2}[.):]|[-*•])\s+(.*\S)\s*$")
_MARKS = re.compile(r"""^["'“”*_`\s]+|["'“”*_`\s]+$""")


def parse_list(text: str, finished: bool = True) -> list[str]:
    """The items in order, without markers and quotes; empty where the text is no list.

    Prose before or after the list is passed over. An item that a token limit cut off (`finished` false) is left out.
    """
    body = re.sub(r"^```\w*\s*|\s*```$", "", text.strip())
    found = [_ITEM.match(line) for line in body.splitlines()]
    items = [match.group(1) for match in found if match]
    if not items and body.startswith(("[", "{")):
        items = _loaded(body)
    elif items and not finished and found[-1]:
        items = items[:-1]
    cleaned = (_MARKS.sub("", item) for item in items)
    return [item for item in cleaned if item]


def is_literal(item: str, text: str) -> bool:
    """Whether the item stands in the text, word for word; line breaks and runs of spaces count as one space."""
    return " ".join(item.split()) in " ".join(text.split())


def _loaded(body: str) -> list[str]:
    try:
        value = yaml.safe_load(body)
    except yaml.YAMLError:
        return []
    items = next(iter(value.values()), None) if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
