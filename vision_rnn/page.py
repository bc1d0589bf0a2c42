"""A report as one HTML file that needs nothing else: its frame, and the parts that every report is made of.

The parts are elements of the standard library's ElementTree, which escapes all text and all attributes. A policy in the
page's head lets a browser load nothing, and run no script but the page's own.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from vision_rnn.files import atomic_path
from vision_rnn.version import tool_version

Element = ElementTree.Element

_JPEG_QUALITY = 80
# Side in pixels at which small images are shown.
_SMALL_SIDE = 112
STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --muted: #5b6570; --page: #ffffff; --card: #f4f6f8; --line: #d5dae0;
  --accent: #0b62a8; --first: #0b62a8; --second: #c2570c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --muted: #a2acb7; --page: #15181c; --card: #1f242a;
  --line: #3a424b; --accent: #7cbcf5; --first: #6db3f2; --second: #f2a065; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
dl { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr; gap: .25rem 1rem; }
dt { color: var(--muted); } dd { margin: 0; }
p, figcaption { max-width: 46rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: 0; padding: 0; }
img, svg { max-width: 100%; height: auto; vertical-align: middle; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { overflow-wrap: normal; text-align: left; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chart { width: 100%; max-width: 32rem; }
.chart text { fill: var(--text); font: 12px system-ui, sans-serif; }
.chart .first { stroke: var(--first); } .chart .second { stroke: var(--second); }
.chart path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart path.axis { stroke: var(--line); stroke-width: 1; }
.chart rect.first, .chart circle.first { fill: var(--first); stroke: none; }
.chart rect.second, .chart circle.second { fill: var(--second); stroke: none; }
"""
# Rules of parts that pages of another frame use too; they need its colours.
PARTS = """
figure { margin: 0; }
figcaption { white-space: pre-line; }
figcaption, .muted { color: var(--muted); font-size: .875rem; }
img.pixels { image-rendering: pixelated; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; min-width: 0; }
"""


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """Return an HTML or SVG element.

    Args:
        tag: Name of the element.
        children: Elements, and texts, which are escaped when the page is written.
        attributes: Attributes by name; a trailing underscore is removed and others become hyphens, so `class_` is
            `class` and `aria_label` is `aria-label`.
    """
    made = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def picture(image: Image.Image, alt: str, *, photo: bool = False, **attributes: object) -> Element:
    """Return an image whose bytes are in the page.

    Args:
        image: The picture, in the size in which it is stored.
        alt: Text in place of the picture for those who do not see it.
        photo: Whether to store it as JPEG, which is smaller for photos; otherwise it is stored without loss.
        attributes: Further attributes.
    """
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if photo else "PNG", quality=_JPEG_QUALITY, optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/{'jpeg' if photo else 'png'};base64,{encoded}"
    return element("img", src=source, alt=alt, **({"width": image.width, "height": image.height} | attributes))


def figure(content: Element, caption: str) -> Element:
    """Return a picture or chart with the text below it."""
    return element("figure", content, element("figcaption", caption))


def small_figure(image: Image.Image, alt: str, caption: str) -> Element:
    """Return a small image, enlarged so that its pixels are squares, with the text below it."""
    scale = max(1, round(_SMALL_SIDE / max(image.size)))
    width, height = scale * image.width, scale * image.height
    return figure(picture(image, alt, class_="pixels", width=width, height=height), caption)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Element:
    """Return a table, which scrolls by itself where it is wider than the page.

    Args:
        columns: Titles of the columns.
        rows: Cells; the first of a row is its title, and those that start with a digit or sign are numbers.
        caption: What the table shows, for those who do not see the page.
    """
    head = element("tr", *(element("th", title, scope="col") for title in columns))
    body = [element("tr", element("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows]
    content = element("table", element("thead", head), element("tbody", *body))
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def section(title: str, *children: Element) -> Element:
    """Return a section of a page, to which the links at its head lead."""
    return element("section", element("h2", title), *children, id=title.lower().replace(" ", "-"))


def page(title: str, introduction: str, sections: Sequence[Element], style: str = "", script: str = "") -> str:
    """Return the whole page as HTML.

    Args:
        title: Title of the page.
        introduction: Text below the title.
        sections: From `section`.
        style: Further rules of CSS.
        script: JavaScript, the only one that runs in the page.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=f"{policy}; script-src 'sha256-{digest}'"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", STYLE + PARTS + style),
    )
    links = [element("li", element("a", each.findtext("h2", ""), href=f"#{each.get('id')}")) for each in sections]
    body = element(
        "body",
        element(
            "header",
            element("h1", title),
            element("p", introduction),
            element("nav", element("ul", *links), aria_label="Sections"),
        ),
        element("main", *sections),
        element("footer", element("p", f"Written by vision-rnn {tool_version()}.", class_="muted")),
        *([element("script", script)] if script else []),
    )
    root = element("html", head, body, lang="en")
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def fragment(part: Element) -> str:
    """Return one part as HTML, for a page of another frame."""
    return ElementTree.tostring(part, encoding="unicode", method="html")


def write_page(path: str | Path, html: str) -> None:
    """Write a page, complete or not at all; what UTF-8 cannot encode in a file name becomes a question mark.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_path(path) as staged:
        staged.write_text(html, encoding="utf-8", errors="replace", newline="\n")


def _cell(text: str) -> Element:
    is_number = text[:1].isdigit() or text[:1] in ("+", "-", ".")
    return element("td", text, **({"class_": "number"} if is_number else {}))
