"""That the check of the built site sees what it is for."""

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "docs" / "check_site.py"
GOOD = '<h1 id="a">A</h1><a href="two.html#b">b</a><a href="#a">a</a><a href="https://x.example/">x</a>'
TWO = '<p id="b">B</p><script src="s.js"></script><img src="data:image/png;base64,AA==">'


def check(site: Path, **pages: str) -> tuple[int, list[str]]:
    for name, text in {"one": GOOD, "two": TWO, **pages}.items():
        (site / f"{name}.html").write_text(text, encoding="utf-8")
    (site / "s.js").write_text("", encoding="utf-8")
    done = subprocess.run([sys.executable, CHECK, site], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_site_without_a_fault_passes(tmp_path: Path) -> None:
    assert check(tmp_path) == (0, [])


def test_links_and_anchors_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    bad = '<a href="three.html">3</a><a href="two.html#c">c</a><a href="#d">d</a><img src="i.png">'
    assert check(tmp_path, bad=bad) == (
        1,
        [
            "bad.html: three.html leads nowhere",
            "bad.html: there is no 'c' in two.html",
            "bad.html: there is no 'd' in bad.html",
            "bad.html: i.png leads nowhere",
        ],
    )


def test_what_is_loaded_from_elsewhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.css").write_text("@import '//fonts.example/f.css'; p { background: url(p.png) }")
    bad = (
        '<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/x.css">'
        '<link rel="next" href="two.html"><style>p { background: url(https://cdn.example/p.png) }</style>'
    )
    assert check(tmp_path, bad=bad) == (
        1,
        [
            "bad.html: loads https://cdn.example/x.js",
            "bad.html: loads //cdn.example/x.css",
            "bad.html: loads https://cdn.example/p.png",
            "s.css: loads //fonts.example/f.css",
        ],
    )


def test_no_page_at_all_is_a_fault(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, CHECK, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, "there is no page" in done.stdout) == (1, True)
