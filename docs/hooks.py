"""Hooks of the docs site: README.md and CONTRIBUTING.md lie above docs/, where a reader of the repository looks for them."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ABOVE = {"index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages above docs/."""
    for uri, name in ABOVE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between docs/ and the pages above it lead to their places on the site."""
    if page.file.src_uri in ABOVE:
        return markdown.replace("](docs/", "](").replace('="docs/', '="').replace("](README.md", "](index.md")
    for name in ("CONTRIBUTING.md", "README.md"):
        up = "../" * page.file.src_uri.count("/")
        site = "index.md" if name == "README.md" else name
        markdown = markdown.replace(f"](../{up}{name}", f"]({up}{site}")
    return markdown
