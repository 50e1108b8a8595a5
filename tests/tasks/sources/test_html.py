"""HTML answers become the Markdown that they show."""

import pytest

from tasks.sources.html import is_html, markdown

SHAREGPT_CODE = (
    '<pre><div class="bg-black mb-4 rounded-md"><div class="flex items-center"><span>python</span>'
    '<button class="flex ml-auto gap-2"><svg><path d="M1 2"></path></svg>Copy code</button></div>'
    '<div class="p-4 overflow-y-auto"><code class="!whitespace-pre hljs language-python">'
    '<span class="hljs-keyword">if</span> a &lt; b:\n    c = "x  y"\n</code></div></div></pre>'
)
KATEX = (
    '<span class="math math-inline"><span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
    '<annotation encoding="application/x-tex">x^2</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true">x2</span></span></span>'
)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<div class="markdown prose w-full"><p>One</p><p>Two\n three</p></div>', "One\n\nTwo three"),
        ("<p>a &amp; b &lt;c&gt; &quot;d&quot; &#39;e&#39;&nbsp;f</p>", "a & b <c> \"d\" 'e'\xa0f"),
        ("<p>one<br>two<br/> three</p>", "one\ntwo\nthree"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
        ('<ol start="3"><li><p>one</p><p>more</p></li><li>two</li></ol>', "3. one\n\n   more\n4. two"),
        ("<ul><li>one<ul><li>sub</li></ul></li><li>two</li></ul>", "- one\n  - sub\n- two"),
        ("<ul><li>open<li>next</ul>", "- open\n- next"),
        (SHAREGPT_CODE, '```python\nif a < b:\n    c = "x  y"\n```'),
        ("<pre><code>a\n```\nb\n</code></pre>", "````\na\n```\nb\n````"),
        ("<p>Use <code>a &lt; b</code>.</p>", "Use `a < b`."),
        ("<p><strong>so </strong><em>it</em> is</p>", "**so** *it* is"),
        (
            '<p><a href="https://example.org">here</a> <img alt="a cat" src="c.png"></p>',
            "[here](https://example.org) a cat",
        ),
        ("<h2>Title</h2><p>text</p><hr>", "## Title\n\ntext\n\n---"),
        ("<blockquote><p>one</p><p>two</p></blockquote>", "> one\n>\n> two"),
        (
            "<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1|2</td></tr></tbody></table>",
            "| A | B |\n| --- | --- |\n| 1\\|2 |  |",
        ),
        (f"<p>So {KATEX} is</p>", "So $x^2$ is"),
        ("<p>kept</p><script>alert(1)</script><style>p{}</style><!-- no --><p></p><p> </p>", "kept"),
        ("<p>never closed<p>twice", "never closed\n\ntwice"),
        (f'<ol start="{"9" * 5000}"><li>x</li></ol>', "1. x"),
        ("words <p>inside</p> after", "words\n\ninside\n\nafter"),
        ("", ""),
    ],
)
def test_html_becomes_what_it_shows(html, text):
    assert markdown(html) == text


def test_an_answer_in_parts_reads_as_it_was_written():
    listed = "<ol><li>run<pre><code>ls\n</code></pre></li></ol>"
    assert markdown(f'<div class="markdown prose"><p>Like this:</p>{SHAREGPT_CODE}{listed}</div>') == (
        'Like this:\n\n```python\nif a < b:\n    c = "x  y"\n```\n\n1. run\n   ```\n   ls\n   ```'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<div class="markdown prose"><p>x</p></div>', True),
        ("<p>x</p>", True),
        ("<ol><li>x</li></ol>", True),
        ("Use a `<p>` for it.", False),
        ("<html><body><p>x</p></body></html>", False),
        ('<div class="modal fade">x</div>', False),
        ('<p class="x">x</p>', True),
        ("<div><p>x</p></div>", True),
        ("Sure:<br><pre>x</pre>", True),
        ("<span>a</span><p>x</p>", True),
        ('<div class="markdown prose"><p>x</p><pre>```</pre></div>', True),
        ("Write <br> or a <pre> for it.", False),
        ("A line<br>and more", False),
        ("<p>x</p>\n```html\n<p>x</p>\n```", False),
        ("a <b> c", False),
    ],
)
def test_markdown_about_html_is_left_as_it_is(text, expected):
    assert is_html(text) is expected
