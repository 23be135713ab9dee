"""Help pages, names and tooltips on ComfyUI's page, in English and in Chinese; in a real browser, as test_browser."""

import json
import re

import pytest
from browser import Tab
from client import HERE
from slow import slow

ROOT = HERE.parents[1]


def names_in(text):
    """What a help page sets as code: the names of inputs and outputs among them."""
    return set(re.findall(r"`(\w+)`", text))


def ours(server):
    return [name for name, info in server.get_json("/object_info").items() if info["category"] == "MOVA"]


# The picture in the panel, once it is there: its size, and how high the node is today.
PICTURE = """([kind, language]) => {
  const picture = document.querySelector(`.node-help-content img[src$="/docs/${kind}/${language}.webp"]`)
  const high = app.graph._nodes[0].computeSize()[1]
  return picture?.complete && {size: [picture.naturalWidth, picture.naturalHeight], high}
}"""


def check_picture(tab, kind, language):
    """The page has loaded it, and it is of the node with the inputs that it has now (node_pictures.py)."""
    found = tab.page.wait_for_function(PICTURE, arg=[kind, language]).json_value()
    assert found["size"][0] >= 260 and abs(found["size"][1] - 65 - found["high"]) <= 1, (kind, found)


def help_of(tab, kind, title):
    """The text of the help panel of a node, opened by the button above it."""
    tab.select_new(kind)
    help_text = tab.page.locator(".node-help-content")
    if not help_text.is_visible():
        tab.page.get_by_test_id("info-button").click()
    help_text.get_by_role("heading", name=title, exact=True).wait_for()
    return help_text.inner_text()


def test_each_node_shows_its_help_page(tab):
    for kind in ours(tab.server):
        page = (ROOT / f"web/docs/{kind}.md").read_text(encoding="utf-8")
        shown = help_of(tab, kind, page.split("\n")[0].removeprefix("# "))
        assert names_in(page) and all(name in shown for name in names_in(page)), kind
        check_picture(tab, kind, "en")


@pytest.fixture
def chinese(browser, server, files):
    tab = Tab(browser, server, locale="zh")
    yield tab
    server.post("/settings/Comfy.Locale", "en")
    tab.close()


@slow("test_translation has the words")
def test_on_a_chinese_page_names_tooltips_search_and_help_are_chinese(chinese):
    tab, texts = chinese, json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    for kind in ours(tab.server):
        page = (ROOT / f"web/docs/{kind}/zh.md").read_text(encoding="utf-8")
        shown = help_of(tab, kind, texts[kind]["display_name"])
        assert names_in(page) and all(name in shown for name in names_in(page)), kind
        check_picture(tab, kind, "zh")
        title, labels = tab.ask(
            "() => { const n = app.graph._nodes[0]; return [n.getTitle(), Object.fromEntries("
            "n.inputs.map(i => [i.name, i.label ?? i.localized_name]))] }"
        )
        names = {name: entry["name"] for name, entry in texts[kind]["inputs"].items()}
        assert title == texts[kind]["display_name"] and names.items() <= labels.items()

    tab.select_new("MOVAScheduler")
    tooltip = tab.page.locator(".node-tooltip", has_text=texts["MOVAScheduler"]["inputs"]["steps"]["tooltip"])
    for _ in range(
        20
    ):  # a pointer is not noticed before the node is drawn, and the panel beside the canvas has settled
        x, y = tab.ask(
            "() => { const n = app.graph._nodes[0], box = app.canvas.canvas.getBoundingClientRect()\n"
            "const p = app.canvas.ds.convertOffsetToCanvas([n.pos[0] + 100, n.pos[1] + n.widgets[0].y + 8])\n"
            "return [p[0] + box.left, p[1] + box.top] }"
        )
        tab.page.mouse.move(x - 5, y)
        tab.page.mouse.move(x, y)
        tab.page.wait_for_timeout(1500)
        if tooltip.is_visible():
            break
    assert tooltip.is_visible()
    tab.ask("() => { app.extensionManager.command.execute('Workspace.SearchBox.Toggle') }")
    tab.page.get_by_role("dialog").wait_for()
    tab.page.keyboard.type(texts["MOVAScheduler"]["display_name"])
    tab.page.get_by_role("dialog").get_by_text(texts["MOVAScheduler"]["display_name"]).first.wait_for()
