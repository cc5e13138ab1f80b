"""What students wrote, as HTML that runs nothing and fetches nothing."""

import base64
import binascii
import html
import re
from functools import lru_cache

import mistune
from docutils.utils.math.latex2mathml import tex2mathml
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

LONGEST = 4000  # characters of one text output; the whole is in the student's own notebook
_GAP, _BLANK = re.compile(r"(?:[^\S\n]*\n){20,}"), re.compile(r"[^\S\n]{200,}")
_LONGEST_SOURCE = 20_000  # characters of a cell that are shown: no reader needs more, and no grader waits for it
_CODE = HtmlFormatter(nowrap=True, style="default")


class _Renderer(mistune.HTMLRenderer):
    """Markdown without raw HTML, with formulas as MathML, and without images from elsewhere."""

    def __init__(self, attachments: dict) -> None:
        super().__init__(escape=True)
        self.attachments = attachments

    def inline_math(self, text: str) -> str:
        return _math(text, as_block=False)

    def block_math(self, text: str) -> str:
        return f"<p>{_math(text, as_block=True)}</p>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        bundle = self.attachments.get(url.removeprefix("attachment:"), {}) if url.startswith("attachment:") else {}
        for mime in ("image/png", "image/jpeg"):
            if mime in bundle and (data := bitmap(bundle[mime])):
                return f'<img src="data:{mime};base64,{data}" alt="{html.escape(text)}">'
        return f"<em>(image: {html.escape(text or url)})</em>"


# What TeX allows and the converter does not know, said in words that it knows.
_SAID_OTHERWISE = (
    (r"\\dots(?![a-zA-Z])", r"\\ldots"),
    (r"\\([bB]igg?)(?![a-zA-Z])", r"\\\1l"),
    (r"\\([td]?frac)\s*([0-9A-Za-z])\s*([0-9A-Za-z]|\\[A-Za-z]+)", r"\\\1{\2}{\3}"),
)


def _math(tex: str, as_block: bool) -> str:
    try:
        known = tex
        for pattern, words in _SAID_OTHERWISE:
            known = re.sub(pattern, words, known)
        return tex2mathml(known, as_block=as_block)
    except Exception:  # whatever TeX it cannot read is shown as it was written
        return f"<code>{html.escape(tex)}</code>"


def markdown(text: str, attachments: dict | None = None) -> Markup:
    """Return markdown as HTML that runs nothing and fetches nothing.

    Args:
        text: the source; formulas between dollars.
        attachments: a cell's attached images.
    """
    text = _cut(text)
    render = mistune.Markdown(
        _Renderer(attachments or {}), plugins=[mistune.import_plugin(p) for p in ("math", "table", "strikethrough")]
    )
    # JupyterLab lets a $$ formula share its line with text; mistune wants it on its own.
    spaced = re.sub(r"\$\$(.+?)\$\$", lambda m: f"\n$$\n{m.group(1).strip()}\n$$\n", text, flags=re.DOTALL)
    try:
        return Markup(render(spaced))
    except RecursionError:  # quotations inside quotations inside quotations
        return Markup(f"<pre>{html.escape(text)}</pre>")


@lru_cache(maxsize=512)
def given_markdown(text: str) -> Markup:
    """Return a released cell's markdown as HTML: the same for every student."""
    return markdown(text)


def code(text: str) -> Markup:
    """Return Python source as highlighted HTML."""
    text = _BLANK.sub(" " * 200, _GAP.sub("\n" * 20, _cut(text)))  # pygments dwells on them
    return Markup(highlight(text, PythonLexer(), _CODE))


@lru_cache(maxsize=512)
def given_code(text: str) -> Markup:
    """Return a released cell's source as highlighted HTML: the same for every student."""
    return code(text)


def ticked(text: str) -> Markup:
    """Return a sentence as HTML, what stands between backticks as code; nothing else in it means anything.

    >>> print(ticked("`x<y` is <b>"))
    <code>x&lt;y</code> is &lt;b&gt;
    """
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SOURCE else f"{text[:_LONGEST_SOURCE]}\n… ({len(text):,} characters)"


def short(text: str) -> str:
    """Return a text output, its end cut off where it is long."""
    text = text.rstrip("\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… ({len(text) - LONGEST:,} more characters)"


def bitmap(data: str | list[str]) -> str | None:
    """Return an image's base64 text where it is nothing else, or None."""
    text = re.sub(r"\s", "", "".join(data))
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return text
