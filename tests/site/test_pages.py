"""Every page of the chapters in a browser: nothing comes from outside, nothing breaks, everyone can use it."""

import pytest

pytestmark = pytest.mark.browser


def test_page(chapter_page: str, reader):
    """Requests, errors, maths, pictures, contrast, width, live figures: with a server and without."""
    wrong = reader.problems(chapter_page)
    assert not wrong, "\n".join(wrong)


def test_every_lesson_has_a_live_figure(website):
    """Else the test above would have none to press keys on."""
    where = ("book/[0-9][0-9]_*/[0-9][0-9]_*.html", "book/appendix/*.html")
    lessons = sorted(page for pattern in where for page in website.folder.glob(pattern))
    assert len(lessons) >= 53
    assert [p.name for p in lessons if 'class="ebm-explorer"' not in p.read_text(encoding="utf-8")] == []
