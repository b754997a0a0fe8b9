#!/usr/bin/env python3
"""Finds links in the documents that lead nowhere: a file that is not there, a heading that a page does not have."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)"')


def text(path):
    return FENCE.sub("", path.read_text())


def anchors(path):
    """What a forge makes of a page's headings: lower case, spaces as hyphens, nothing else but letters and digits."""
    content = text(path)
    found = set(ANCHOR.findall(content))
    for heading in HEADING.findall(content):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = "".join(char for char in plain if char.isalnum() or char in " -_").replace(" ", "-")
        # The second heading of a name has a number.
        number = 0
        while (slug if number == 0 else f"{slug}-{number}") in found:
            number += 1
        found.add(slug if number == 0 else f"{slug}-{number}")
    return found


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()
    problems, count = [], 0
    for page in (ROOT / name for name in listed):
        for link in LINK.findall(text(page)):
            if re.match(r"[a-z]+:", link):
                continue
            count += 1
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists():
                problems.append(f"{page.relative_to(ROOT)}: {link}: no such file")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                problems.append(f"{page.relative_to(ROOT)}: {link}: no such heading")
    print("\n".join(problems), file=sys.stderr)
    if problems or not count:
        sys.exit(1)
    print(f"{count} links lead somewhere")


main()
