"""What stands on pages: texts, panels, tiles, badges, links, fields that lead somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from nicegui import ui

from vedette.hub.console.gate import PATH

Tone = Literal["", "good", "warn", "bad", "note"]

SEVERITY_TONE: Mapping[str, Tone] = {
    "Critical": "bad",
    "High": "bad",
    "Important": "warn",
    "Medium": "warn",
    "Warning": "warn",
    "Low": "note",
    "Informational": "",
}
STATE_TONE: Mapping[str, Tone] = {"online": "good", "silent": "warn", "disabled": "bad", "never seen": ""}
RESULT_TONE: Mapping[str, Tone] = {"PASS": "good", "FAIL": "bad", "ERROR": "warn", "SKIP": ""}


def element(tag: str, text: str) -> ui.label:
    """An element that shows a text; the framework sets it as text, never as markup."""
    made = ui.label(text)
    made.tag = tag
    return made


def text(content: str, classes: str = "", tag: str = "div") -> ui.label:
    """A text, shown as it is."""
    return element(tag, content).classes(classes)


def go(address: str) -> None:
    """Lead the browser to an address of the console; the framework puts its own path before it again."""
    ui.navigate.to(address.removeprefix(PATH))


def search(placeholder: str, value: str, address: Callable[[str], str]) -> None:
    """A field that leads to the address of what is typed into it."""
    field = ui.input(placeholder=placeholder, value=value).props("outlined dense clearable")
    field.props(f'aria-label="{placeholder}"').style("width: 260px")
    field.on("keydown.enter", lambda: go(address(field.value or "")))


def pages(page: int, more: bool, address: Callable[[int], str], of: str = "") -> None:
    """Links to the pages before and behind."""
    if page == 1 and not more:
        return
    with block("row"):
        if page > 1:
            link("← Previous", address(page - 1))
        text(f"Page {page:,}{of}", "dim num")
        if more:
            link("Next →", address(page + 1))


@contextmanager
def panel(title: str = "", about: str = "", classes: str = "") -> Iterator[ui.element]:
    """A bordered part of a page."""
    with ui.element("section").classes(f"panel {classes}") as made:
        if title:
            element("h2", title)
        if about:
            element("p", about).classes("about")
        yield made


def block(classes: str) -> ui.element:
    """A div."""
    return ui.element("div").classes(classes)


def tile(label: str, value: str, note: str = "", href: str = "") -> None:
    """One number with its name."""
    made = ui.element("a" if href else "div").classes("tile")
    if href:
        made.props(f'href="{href}"')
    with made:
        text(label, "label")
        text(value, "value")
        text(note, "note")


def badge(content: str, tone: Tone = "") -> None:
    """A word in a colour."""
    text(content, f"badge {tone}", "span")


def link(content: str, href: str) -> None:
    """A link inside the console; `href` is made by `at`."""
    element("a", content).classes("link").props(f'href="{href}"')


def link_button(content: str, href: str, icon: str = "") -> None:
    """A link that looks like a button."""
    made = ui.element("a").classes("link-button").props(f'href="{href}"')
    with made:
        if icon:
            ui.icon(icon)
        element("span", content)


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values; what is not known is left out."""
    with block("facts"):
        for key, value in pairs:
            if value:
                text(key, "key")
                text(value, "value")


def segments(choices: Mapping[str, str], chosen: str) -> None:
    """Links of which one is chosen. choices: name → address."""
    with block("segments"):
        for name, href in choices.items():
            element("a", name).props(f'href="{href}"').classes("on" if name == chosen else "")
