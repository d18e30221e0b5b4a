"""HTML that cannot be broken by what users type: every string is escaped unless it is `Html` already."""

from __future__ import annotations

import html

from mammadai_jax.music.midi import printable

_VOID = frozenset({"br", "img", "link", "meta"})


class Html(str):
    """Markup that is safe to put into a page."""


def text(words: str) -> Html:
    """The words as they are, escaped, in one line, without control characters."""
    return words if isinstance(words, Html) else Html(html.escape(printable(words)))


def join(parts: list[Html] | tuple[Html, ...], separator: str = "\n") -> Html:
    """Pieces of markup one after another."""
    return Html(separator.join(parts))


def tag(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An element with its children; strings are escaped, None and False are left out.

    `class_` is written class, `aria_label` aria-label; an attribute that is True has no value.
    """
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written += (
            f" {key}"
            if value is True
            else f' {key}="{text(value if isinstance(value, str) else str(value))}"'
        )
    content = "".join(text(child) for child in children if child is not None)
    return Html(f"<{name}{written}>" + ("" if name in _VOID else f"{content}</{name}>"))
