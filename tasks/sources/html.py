"""HTML answers as the text that they were written as: Markdown with paragraphs, lists, tables and code blocks.

    <div class="markdown prose"><p>Use <code>len</code>:</p><pre><code class="language-python">len(x)</code></pre></div>
    → Use `len`:\n\n```python\nlen(x)\n```

What is not for reading (buttons, scripts, comments) is left out.
"""

import re
from collections.abc import Iterable, Iterator

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, PageElement, Tag

_WRAPPER = re.compile(r'\s*<div class="markdown')
"""ChatGPT's own, around a whole answer."""
_BEGINS = re.compile(
    r"\s*+(?:[^<`]*+<br ?/?>\s*+|<(span|b|strong|i|em|u|s|a|code|font)(?:\s[^<>]*+)?>[^<`]*+</\1>\s*+|<div>\s*+)*+"
    r"<(?:p|ol|ul|pre|h[1-6]|table|blockquote)(?:\s[^<>]*+)?>"
)
"""A block, perhaps after some words in a line of their own."""
_TIGHT = re.compile(r"- |\d+\. |```")
"""What stands close under its item: a list, or code."""
SILENT = frozenset({"button", "svg", "script", "style", "head", "template"})
"""Nobody reads these."""
BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "figure", "footer",
     "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section", "summary",
     "table", "ul")
)  # fmt: skip
MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "del": "~~", "s": "~~"}


def is_html(text: str) -> bool:
    """Whether an answer is HTML as a whole. Markdown that speaks about HTML, or shows some, is none."""
    return bool(_WRAPPER.match(text)) or (bool(_BEGINS.match(text)) and "```" not in text)


def markdown(html: str) -> str:
    """Raises RecursionError for elements within hundreds of others, ParserRejectedMarkup for what is no HTML."""
    return "\n\n".join(_blocks(BeautifulSoup(html, "html.parser").children))


def _blocks(children: Iterable[PageElement]) -> Iterator[str]:
    """Paragraphs and other blocks, without empty ones; words between blocks are a paragraph."""
    inline: list[PageElement] = []
    for child in children:
        if not isinstance(child, Tag) or not _is_block(child):
            inline.append(child)
            continue
        yield from _paragraph(inline)
        inline = []
        yield from (text for text in _block(child) if text.strip())
    yield from _paragraph(inline)


def _is_block(tag: Tag) -> bool:
    return tag.name in BLOCKS or tag.find(BLOCKS) is not None


def _paragraph(children: Iterable[PageElement]) -> Iterator[str]:
    lines = "".join(map(_inline, children)).split("\n")
    text = "\n".join(line.strip() for line in lines).strip()
    if text:
        yield text


def _block(tag: Tag) -> Iterator[str]:
    if tag.name == "pre":
        yield _code(tag)
    elif tag.name in ("ul", "ol"):
        yield _list(tag)
    elif tag.name == "table":
        yield _table(tag)
    elif tag.name == "blockquote":
        yield "\n".join(f"> {line}".rstrip() for line in "\n\n".join(_blocks(tag.children)).split("\n"))
    elif tag.name == "hr":
        yield "---"
    elif re.fullmatch("h[1-6]", tag.name):
        yield f"{'#' * int(tag.name[1])} {' '.join(_paragraph(tag.children))}".rstrip("# ")
    elif tag.name not in SILENT:
        yield from _blocks(tag.children)


def _code(pre: Tag) -> str:
    """A fenced block; the language is told by a class, what stands around the code (a "Copy code" button) is not."""
    code = pre.find("code") or pre
    language = re.search(r"language-([\w+#.-]+)", " ".join(code.get_attribute_list("class") if code.attrs else []))
    text = code.get_text().strip("\n")
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}{language[1] if language else ''}\n{text}\n{fence}"


def _list(tag: Tag) -> str:
    """Each item's later lines are moved in under its first."""
    start = str(tag.get("start", "1"))
    number = int(start) if re.fullmatch("[0-9]{1,9}", start) else 1
    lines = []
    for place, item in enumerate(_items(tag)):
        mark = f"{number + place}. " if tag.name == "ol" else "- "
        blocks = _blocks(child for child in item.children if not _is_named(child, "li"))
        inside = "".join(("\n" if _TIGHT.match(block) else "\n\n") + block for block in blocks).lstrip("\n")
        lines.append(mark + re.sub(r"\n(?=.)", "\n" + " " * len(mark), inside))
    return "\n".join(lines)


def _items(tag: Tag) -> Iterator[Tag]:
    """The list's items; one that was not closed holds those after it."""
    for child in tag.children:
        if isinstance(child, Tag) and child.name == "li":
            yield child
            yield from _items(child)


def _is_named(child: PageElement, name: str) -> bool:
    return isinstance(child, Tag) and child.name == name


def _table(tag: Tag) -> str:
    rows = [[_cell(cell) for cell in row.find_all(["th", "td"], recursive=False)] for row in tag.find_all("tr")]
    width = max(map(len, rows), default=0)
    filled = [row + [""] * (width - len(row)) for row in rows if row]
    lines = [f"| {' | '.join(row)} |" for row in filled]
    return "\n".join([*lines[:1], *([f"|{' --- |' * width}"] if lines else []), *lines[1:]])


def _cell(cell: Tag) -> str:
    return " ".join("".join(map(_inline, cell.children)).split()).replace("|", "\\|")


def _inline(child: PageElement) -> str:
    if not isinstance(child, Tag):
        wanted = type(child) in (NavigableString, CData)
        return re.sub(r"[ \t\r\n\f]+", " ", str(child)) if wanted else ""
    if child.name in SILENT:
        return ""
    if child.name == "br":
        return "\n"
    if child.name == "code":
        return f"`{child.get_text()}`"
    if formula := _formula(child):
        return formula
    inside = "".join(map(_inline, child.children))
    if child.name == "a" and child.get("href") and inside.strip():
        return f"[{inside.strip()}]({child['href']})"
    if child.name == "img":
        return str(child.get("alt", ""))
    return _marked(inside, MARKS.get(child.name, ""))


def _marked(text: str, mark: str) -> str:
    """Marks stand at the words, spaces outside."""
    words = text.strip()
    return text.replace(words, f"{mark}{words}{mark}", 1) if words else text


def _formula(tag: Tag) -> str:
    """What KaTeX shows, as it was typed."""
    if not {"katex", "math"} & {*tag.get_attribute_list("class")}:
        return ""
    source = tag.find("annotation")
    mark = "$$" if "math-display" in tag.get_attribute_list("class") else "$"
    return f"{mark}{source.get_text().strip()}{mark}" if source else ""
