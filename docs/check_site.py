"""Whether each link and anchor of the built site leads somewhere, and no page loads anything from elsewhere.

`python docs/check_site.py DIRECTORY` says what is wrong, and then has status 1. Other sites are left alone.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script", "img", "iframe", "source", "audio", "video", "embed", "object", "link"}
NOT_LOADED = {"author", "canonical", "index", "next", "prev", "search"}
"""What a `<link>` can be without that anything is loaded."""
ELSEWHERE = re.compile(r"""(?:url\(\s*['"]?|@import\s*['"])((?:https?:)?//[^'")\s]+)""")


class Page(HTMLParser):
    """The ids of a page, where it leads, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = {"", "top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)
        self.loaded += ELSEWHERE.findall(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in an element."""
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADING and given.get("rel") not in NOT_LOADED:
            self.loaded += [given[name] for name in ("src", "href", "data", "poster") if given.get(name)]
            self.loaded += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]


def problems(site: Path) -> Iterator[str]:
    """What is wrong with a site, in words."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: there is no page"
    for path, page in pages.items():
        where = path.relative_to(site)
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                if url in page.loaded and parts.scheme != "data":
                    yield f"{where}: loads {url}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where}: {url} leads nowhere"
            elif target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{where}: there is no {parts.fragment!r} in {target.name}"
    for path in sorted(site.rglob("*.css")):
        for url in ELSEWHERE.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads {url}"


def main(directory: str) -> int:
    """Print what is wrong; the exit status."""
    found = list(problems(Path(directory).resolve()))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
