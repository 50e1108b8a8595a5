"""Readers of documents: C4, the user's own texts, Python files."""

import pytest

PAGE = {"text": " A page about pears.\n", "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org/pears"}


def test_c4_gives_its_texts(rows_of, refusal_of):
    assert rows_of("c4", PAGE) == [{"text": "A page about pears."}]
    assert "field 'url'" in refusal_of("c4", PAGE | {"url": None})
    assert "field 'text'" in refusal_of("c4", PAGE | {"text": " \n"})


@pytest.mark.parametrize("value", ["A text.\n", {"text": "A text."}, {"content": "A text."}])
def test_own_documents(rows_of, value):
    assert rows_of("plain_text", value) == [{"text": "A text."}]


def test_an_empty_document_is_refused(refusal_of):
    assert "field 'text'" in refusal_of("plain_text", "\n\n")
    assert "field 'text or content'" in refusal_of("plain_text", {"body": "x"})


def test_python_files_keep_their_licence_and_empty_ones_are_passed_over(rows_of, refusal_of):
    assert rows_of("python_files", "import os\n") == [{"text": "import os\n"}]
    assert rows_of("python_files", {"content": "import os", "license": "MIT"}) == [
        {"text": "import os", "licence": "MIT"}
    ]
    assert rows_of("python_files", "\n") == rows_of("python_files", {"content": ""}) == []
    assert "field 'content or code or text'" in refusal_of("python_files", {"path": "a.py"})
