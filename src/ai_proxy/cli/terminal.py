"""What a terminal may be shown."""


def visible(value: object) -> str:
    """What somebody else made up, a name or a model, can be anything: what a terminal would obey is spelled out."""
    text = "-" if value is None else str(value)
    return text if text.isprintable() else ascii(text)


def visible_text(text: str) -> str:
    """The same of a text in lines."""
    return "".join(one if one.isprintable() or one in "\n\t" else _spelled(one) for one in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


def in_one_line(text: str, width: int) -> str:
    """The beginning of a text, as far as there is room."""
    line = visible_text(" ".join(text[: 4 * width].split()))
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"
