"""What the schema asks for and what a file says, as parts of a sentence.
Pure words; the sentences themselves are made by those who found the mistake."""

from collections.abc import Sequence

from pipeline.config.schema import Schema

_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
}


# Places that take more than one form; their titles are what a sentence calls the thing itself.
_FORMS = {
    "broker": "a URL, the word embedded, or a map with a `url`",
    "http": "a port, or an IP address with a port, or a map with an `address`",
    "idempotency": "memory, sqlite, or a map with a `store`",
    "source": "a map with a `type`, or the path of a generator",
}


def phrase(schema: Schema) -> str:
    """What a place takes: `a whole number from 1 to 65535`."""
    if form := _FORMS.get(schema.get("$anchor", "")):
        return form
    if "title" in schema:
        return str(schema["title"])
    if "enum" in schema:
        return either(options(schema))
    found = schema.get("type", "string")
    names = [found] if isinstance(found, str) else [name for name in found if name != "null"]
    words = either([_TYPES[name] for name in names])
    if "maximum" in schema and schema["maximum"] < 2**31 - 1:
        return f"{words} from {schema['minimum']} to {schema['maximum']}"
    if "minimum" in schema:
        return f"{words} from {schema['minimum']}"
    return words


def options(schema: Schema) -> list[str]:
    """The values that a place takes, where they are listed."""
    return [str(value) for value in schema.get("enum", ()) if value is not None]


def either(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def both(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def this(value: object) -> str:
    """What stands in the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{shortened(value)}"' if value else "an empty text"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a map"
        case _:
            return "nothing"


def shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
