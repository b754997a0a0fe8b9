#!/usr/bin/env python3
"""Prints the chart's README: the text of README.md up to its table, and a table of what values.yaml says.

values.yaml has one line a value, and above each value the comment that describes it.
"""

import re
import sys

TABLE = "## Values\n"


def rows(lines):
    """Path, default and description of each value; an error where a value has none."""
    path, comment = [], []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
            continue
        found = re.fullmatch(r"( *)([A-Za-z]+):(?: (\S.*))?", line.rstrip("\n"))
        if found:
            indent, key, value = found.groups()
            path = path[: len(indent) // 2] + [key]
            if value is not None:
                if not comment:
                    raise SystemExit(f"values.yaml:{number}: {'.'.join(path)} has no description")
                yield ".".join(path), value, " ".join(comment)
        elif line.strip():
            raise SystemExit(f"values.yaml:{number}: not one line a value: {line.strip()}")
        comment = []


def main(chart):
    with open(f"{chart}/README.md", encoding="utf-8") as file:
        head = file.read().split(TABLE)[0]
    with open(f"{chart}/values.yaml", encoding="utf-8") as file:
        table = [f"| `{path}` | `{value}` | {text.replace('|', chr(92) + '|')} |" for path, value, text in rows(file)]
    print(head + TABLE + "\n| value | default | |\n| --- | --- | --- |\n" + "\n".join(table))


main(sys.argv[1])
