"""A hook of MkDocs: what docs/ links to outside of it becomes pages of the site, and the links lead there.

On a forge these links lead into the sources. A site has none, and there is no address of the sources to send readers to.
A Markdown file comes in as it is, any other file as a page with its text, a folder as a page with the texts of its files.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Code blocks come first, so that nothing inside them is taken for a link.
LINK = re.compile(r"^ *(```|~~~).*?^ *\1|(\[[^\]]*\]\()([^)\s#]+)", re.MULTILINE | re.DOTALL)
# From a page's name in the site to its path in the repository.
outside = {}


def path_of(name):
    return outside.get(name) or f"docs/{name}"


def name_of(path):
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"repository/{path}/index.md"
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def target(path, link):
    """The path in the repository that a link of the file `path` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def text(path):
    source = ROOT / path
    if source.suffix == ".md":
        return source.read_text()
    if not source.is_dir():
        return f"# {path}\n\n{block(source)}"
    files = sorted(file for file in source.iterdir() if file.is_file())
    return f"# {path}\n\n" + "\n".join(f"## {file.name}\n\n{block(file)}" for file in files)


def block(file):
    return f"~~~~~\n{file.read_text()}\n~~~~~\n"


def links(path):
    found = (match[3] for match in LINK.finditer(text(path)) if match[3])
    return [target(path, link) for link in found if not re.match("[a-z]+:", link)]


def on_config(config):
    # Both need to know where the site will be, which only `site_url` would tell.
    if not config["site_url"]:
        config["theme"].static_templates -= {"404.html", "sitemap.xml"}
    return config


def on_files(files, config):
    outside.clear()
    todo = [path_of(page.src_uri) for page in files.documentation_pages()]
    while todo:
        for path in links(todo.pop()):
            name = name_of(path)
            # What is not there stays a dead link, of which MkDocs and tests/tools/site.py complain.
            if name.startswith("repository/") and name not in outside and (ROOT / path).exists():
                outside[name] = path
                files.append(File(name, config["docs_dir"], config["site_dir"], config["use_directory_urls"]))
                todo.append(path)
    return files


def on_page_read_source(page, config):
    path = outside.get(page.file.src_uri)
    return text(path) if path else None


def on_page_markdown(markdown, page, config, files):
    name = page.file.src_uri

    def lead(match):
        link = match[3]
        if not link or re.match("[a-z]+:", link):
            return match[0]
        return match[2] + posixpath.relpath(name_of(target(path_of(name), link)), posixpath.dirname(name))

    return LINK.sub(lead, markdown)
