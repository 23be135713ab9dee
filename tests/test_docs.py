"""What README and docs/ point at is there."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        target = page.parent / place if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_one_click_from_the_readme():
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{page.name}" for page in PAGES[2:]} <= {link.partition("#")[0] for link in linked}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:authoring|mova|nodes|tests|benchmarks|docs|demos|workflows|web)/[\w./-]+\.\w+)`", text
    ):
        assert (ROOT / name).exists(), name


HELP = sorted((ROOT / "web/docs").glob("**/*.md"))


@pytest.mark.parametrize("page", HELP, ids=lambda page: page.relative_to(ROOT / "web/docs").as_posix())
def test_each_help_page_shows_its_own_small_picture(page):
    """ComfyUI's page looks for pictures from web/docs on, wherever the help page lies."""
    kind, language = (page.parent.name, page.stem) if page.parent.name != "docs" else (page.stem, "en")
    title, _, text = page.read_text(encoding="utf-8").removeprefix("# ").partition("\n")
    assert LINK.findall(text) == [f"{kind}/{language}.webp"] and f"![{title}](" in text
    picture = ROOT / "web/docs" / kind / f"{language}.webp"
    assert 0 < picture.stat().st_size < 25_000
    with Image.open(picture) as found:
        assert found.format == "WEBP" and found.width < 600 and found.height < 800
