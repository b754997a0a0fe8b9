#!/usr/bin/env python3
"""Builds docs/ as a site, and fails where a reader would meet a dead link, Markdown that was not understood, a page to which
nothing leads, or a file that comes from another host.

site.py [FOLDER]: builds into FOLDER; without one, only to see whether all is well.
"""

import html.parser
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What a reader sees only where Markdown was not understood: fences, rows of a table, list items inside a paragraph.
RAW = re.compile(r"```|~~~|\\\||^\||^(-|\d+\.) ", re.MULTILINE)
# A list inside a list, indented as only a forge takes it: here it would go on with the outer list. Code blocks are passed over.
SHALLOW = re.compile(r"^ *(```|~~~)[\s\S]*?^ *\1|^( {1,3}(?:[-*]|\d+\.) .*)", re.MULTILINE)


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.raw = set(), [], [], []
        self.inside = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag != "a":
            self.loads += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        if tag in ("pre", "script", "p", "li", "td"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if self.inside and self.inside[-1] in ("p", "li", "td"):
            self.raw += [match[0] for match in RAW.finditer(data)]


def build(site):
    try:
        built = subprocess.run(
            ["mkdocs", "build", "--config-file", ".mkdocs.yml", "--strict", "--site-dir", site],
            cwd=ROOT, capture_output=True, text=True,
            # The hook's compiled form would stay beside it.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except FileNotFoundError:
        sys.exit("site.py: mkdocs is missing: make tools")
    if built.returncode:
        sys.exit(built.stderr)


def problems(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    reached, todo = set(), [site / "index.html"]
    while todo:
        path = todo.pop()
        if path in reached:
            continue
        reached.add(path)
        here, page = path.relative_to(site), pages[path]
        yield from (f"{here}: Markdown that was not understood (in a list, indent by four): {raw}" for raw in page.raw)
        for link in page.links + page.loads:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                if link in page.loads:
                    yield f"{here}: {link}: comes from another host"
                continue
            target = pathlib.Path(os.path.normpath(path.parent / urllib.parse.unquote(url.path))) if url.path else path
            if not target.is_file():
                yield f"{here}: {link}: no such file"
            elif target in pages:
                todo.append(target)
                if url.fragment and url.fragment not in pages[target].ids:
                    yield f"{here}: {link}: no such heading"
    yield from (f"{path.relative_to(site)}: nothing leads there" for path in pages.keys() - reached)
    for source in (ROOT / "docs").rglob("*.md"):
        for match in SHALLOW.finditer(source.read_text()):
            if match[2]:
                yield f"{source.relative_to(ROOT)}: indent by four inside a list: {match[2]}"
    for style in site.rglob("*.css"):
        if re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text()):
            yield f"{style.relative_to(site)}: loads from another host"


def main(folder):
    site = pathlib.Path(folder).resolve()
    # MkDocs empties the folder first.
    if site.exists() and any(site.iterdir()) and not (site / "search/search_index.json").exists():
        sys.exit(f"site.py: {folder} is neither empty nor a site: not touched")
    build(site)
    found = sorted(set(problems(site)))
    if found:
        sys.exit("\n".join(found))
    print(f"{len(list(site.rglob('*.html')))} pages, whose links lead somewhere, in {folder}")


if sys.argv[1:]:
    main(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as temporary:
        main(temporary)
