"""HTML and JavaScript in text, formulas, outputs, attachments, metadata and names. Against the reader's browser."""

import base64

_SCRIPT = "<script>alert('xss-mark')</script><img src=x onerror=alert('xss-mark')>"
ANSWERS = {
    "q1": """@RIGHT@
from IPython.display import HTML, Javascript, SVG, Markdown, Latex, display
display(HTML("<script>alert('xss-mark')</script>"), Javascript("alert('xss-mark')"))
display(Latex("$\\\\href{javascript:alert()}{x}$"))
display(SVG("<svg onload=alert('xss-mark') xmlns='http://www.w3.org/2000/svg'><script>alert('xss-mark')</script></svg>"))
display(Markdown("<script>alert('xss-mark')</script>"))
display({"image/png": "\\"><script>alert('xss-mark')</script>", "text/html": "<script>alert('xss-mark')</script>",
         "application/javascript": "alert('xss-mark')", "text/plain": "<script>alert('xss-mark')</script>"}, raw=True)
print("\\x1b]8;;javascript:alert('xss-mark')\\x07<script>alert('xss-mark')</script>")
""",
    "q3": """@RIGHT@
X = type("<script>alert('xss-mark')</script>", (Exception,), {})

def lowest(energy, grid):
    raise X("<script>alert('xss-mark')</script><img src=x onerror=alert('xss-mark')>")
""",
    "q4": _SCRIPT
    + "\n\n[a](javascript:alert('xss-mark')) ![b](javascript:alert('xss-mark')) <http://x\"onmouseover=alert(1)>"
    + " $\\href{javascript:alert('xss-mark')}{x}$ $$</math><script>alert('xss-mark')</script>$$\n\n"
    + "[ref]: javascript:alert('xss-mark')\n[ref]\n\n![c](attachment:x.svg) ![d](attachment:x.png)\n\n"
    + "| <script>alert('xss-mark')</script> |\n| --- |\n| <iframe src=javascript:alert('xss-mark')> |\n",
}
DESERVED = {"q3_b": 0}


def notebook(world):
    """Return the answers, with scripts in everything that is no answer."""
    nb = world.answered(
        {q: text.replace("@RIGHT@", world.right[q]) if q != "q4" else text for q, text in ANSWERS.items()}
    )
    nb.metadata.title = nb.metadata.authors = _SCRIPT
    svg = base64.b64encode(f"<svg xmlns='http://www.w3.org/2000/svg'>{_SCRIPT}</svg>".encode()).decode()
    for cell in nb.cells:
        cell.metadata.name = _SCRIPT
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "q4":
            cell.attachments = {
                "x.svg": {"image/svg+xml": svg},
                "x.png": {"image/png": f'"{_SCRIPT}', "text/html": _SCRIPT},
            }
    nb.cells.append(type(nb.cells[0])(cell_type="raw", id="raw-1", metadata={"format": "text/html"}, source=_SCRIPT))
    nb.cells.append(type(nb.cells[0])(cell_type="markdown", id="note-1", metadata={}, source=_SCRIPT))
    return nb
