"""Why a text is no YAML, in words of our own: what PyYAML found and where, to one place, sentence and way out.
Pure: strings and positions go in. The parser's own words never come out."""

import re

from pipeline.values import Frozen

_CLOSER = {"[": "]", "{": "}"}
_RESERVED = "@`%*&!|>"
_GLUED = re.compile(r"( *)([\w-]+):([^\s/:][^\s]*)")  # `queue:billing`, and no URL
_SIGNS = ("alias", "anchor", "directive", "block scalar")


class Fault(Frozen, frozen=True, kw_only=True):
    """What the parser says: `opened` is where it was when it began the construct, `index` where it gave up."""

    text: str
    context: str
    opened: int | None
    problem: str
    index: int


class Diagnosis(Frozen, frozen=True, kw_only=True):
    word: str
    start: int
    end: int
    sentence: str
    hint: str | None = None


def explain(fault: Fault) -> Diagnosis:
    """The one diagnostic for a text that is no YAML."""
    for look in (_tab, _variable, _quote, _bracket, _reserved, _tag, _escape, _colon, _key, _content, _indentation):
        if diagnosis := look(fault):
            return diagnosis
    return _at(fault, "this line cannot be read as YAML")


def _tab(fault: Fault) -> Diagnosis | None:
    if _character(fault) != "\t":
        return None
    before = _line_before(fault.text, fault.index)
    if before.strip():
        sentence, hint = "a tab stands between the words of this line; YAML wants spaces", "a space"
    else:
        sentence, hint = "a tab indents this line; YAML wants spaces", "two spaces for each level"
    return Diagnosis(word="tab-indentation", start=fault.index, end=fault.index + 1, sentence=sentence, hint=hint)


def _variable(fault: Fault) -> Diagnosis | None:
    """`{url: ${HOST}}`: to YAML the second brace begins a map."""
    start = fault.index - 1
    if "flow" not in fault.context or fault.text[start : start + 2] != "${":
        return None
    end = fault.text.find("}", start) + 1 or start + 2
    written = fault.text[start:end]
    return Diagnosis(
        word="unquoted-variable",
        start=start,
        end=end,
        sentence=f"`{written}` needs quotes inside brackets and braces, where YAML reads its brace as a map",
        hint=f'"{written}"',
    )


def _quote(fault: Fault) -> Diagnosis | None:
    if "quoted scalar" not in fault.context or fault.opened is None:
        return None
    if "end of stream" not in fault.problem and "document separator" not in fault.problem:
        return None
    return Diagnosis(
        word="unclosed",
        start=fault.opened,
        end=fault.opened + 1,
        sentence="the quote opened here is never closed",
        hint=f"close it with {fault.text[fault.opened]}",
    )


def _bracket(fault: Fault) -> Diagnosis | None:
    if fault.opened is None:
        return None
    opened = fault.text[fault.opened : fault.opened + 1]
    if opened in _CLOSER and "flow" in fault.context:
        if _closes(fault.text, fault.opened):
            return _at(fault, f'a comma or "{_CLOSER[opened]}" is expected here')
        return _unclosed(fault.text, fault.opened)
    innermost = _open_bracket(fault.text, fault.index)
    if innermost is not None and not _closes(fault.text, innermost):
        return _unclosed(fault.text, innermost)
    return None


def _unclosed(text: str, start: int) -> Diagnosis:
    kind = "bracket" if text[start] == "[" else "brace"
    return Diagnosis(
        word="unclosed",
        start=start,
        end=start + 1,
        sentence=f"the {kind} opened here is never closed",
        hint=f'close it with "{_CLOSER[text[start]]}"',
    )


def _reserved(fault: Fault) -> Diagnosis | None:
    """A value that begins with a sign which means something else to YAML: an alias, an anchor, a block of text."""
    begun = fault.opened if any(sign in fault.context for sign in _SIGNS) else None
    if begun is None and "cannot start any token" not in fault.problem:
        return None
    begin = fault.index if begun is None else begun
    character = fault.text[begin : begin + 1]
    if not character or character not in _RESERVED:
        return None
    value = re.split(r"[,\]}\n\r]| #|: ", fault.text[begin:], maxsplit=1)[0].strip()
    return Diagnosis(
        word="reserved-character",
        start=begin,
        end=begin + max(1, len(value)),
        sentence=f'a plain value cannot begin with "{character}"',
        hint=f'put it in quotes: "{value}"' if '"' not in value else "put it in quotes",
    )


def _tag(fault: Fault) -> Diagnosis | None:
    if "tag" not in fault.problem and "tag" not in fault.context:
        return None
    begin = fault.text.rfind("!", 0, fault.index + 1)
    if begin < 0:
        return None
    tag = re.match(r"!\S*", fault.text[begin:])
    width = len(tag[0]) if tag else 1
    return Diagnosis(
        word="unknown-tag",
        start=begin,
        end=begin + width,
        sentence=f'tags such as "{fault.text[begin : begin + width]}" are not allowed',
        hint="put the value in quotes; for values from outside use ${NAME} or ${file:...}",
    )


def _escape(fault: Fault) -> Diagnosis | None:
    if "double-quoted" not in fault.context:
        return None
    start = fault.text.rfind("\\", 0, fault.index + 1)
    if start < 0:
        return None
    return Diagnosis(
        word="bad-yaml",
        start=start,
        end=start + 2,
        sentence=f'"{fault.text[start : start + 2]}" is no escape that double quotes know',
        hint="use single quotes, or write the backslash twice",
    )


def _colon(fault: Fault) -> Diagnosis | None:
    if "mapping values are not allowed" not in fault.problem:
        return None
    return (
        _key_without_colon(fault)
        or _key_without_space(fault)
        or _deeper(fault)
        or _at(
            fault,
            "no colon is expected here",
            "put a text that holds a colon in quotes, or check how far this line and the one above are indented",
        )
    )


def _key_without_colon(fault: Fault) -> Diagnosis | None:
    """YAML reads a line without a colon and the key below it as one text of two lines."""
    begin = fault.text.rfind("\n", 0, fault.index)
    above = fault.text[: max(begin, 0)].rpartition("\n")[2]
    name = above.strip()
    if not re.fullmatch(r"[\w.-]+", name) or not re.fullmatch(r"\s*[\w.-]+", _line_before(fault.text, fault.index)):
        return None
    start = begin - len(above) + above.index(name)
    sentence = f'a colon is missing behind "{name}"'
    return Diagnosis(word="bad-yaml", start=start, end=start + len(name), sentence=sentence, hint=f"{name}:")


def _key_without_space(fault: Fault) -> Diagnosis | None:
    """`queue:billing` is one word to YAML, which goes on in the line below it."""
    end = fault.text.rfind("\n", 0, fault.index)
    found = None
    while end > 0:
        begin = fault.text.rfind("\n", 0, end) + 1
        above = _GLUED.fullmatch(fault.text[begin:end].rstrip())
        if not above:
            break
        found = begin + len(above[1]), above
        end = begin - 1
    if found is None:
        return None
    start, line = found
    return Diagnosis(
        word="bad-yaml",
        start=start,
        end=start + len(line[2]) + 1,
        sentence=f'a space is missing behind "{line[2]}:"',
        hint=f"{line[2]}: {line[3]}",
    )


def _deeper(fault: Fault) -> Diagnosis | None:
    """A key that is indented below a key which has its value already."""
    here = re.fullmatch(r"( +)([\w.-]+)", _line_before(fault.text, fault.index))
    begin = fault.text.rfind("\n", 0, fault.index)
    above = re.fullmatch(r"( *)[\w.-]+: +[^\s#].*", _line_before(fault.text, max(begin, 0)))
    if not here or not above or len(here[1]) <= len(above[1]):
        return None
    return Diagnosis(
        word="bad-yaml",
        start=fault.index - len(here[2]),
        end=fault.index,
        sentence=f'"{here[2]}" is indented further than the line above, which has its value already',
        hint="indent both alike",
    )


def _key(fault: Fault) -> Diagnosis | None:
    if "simple key" not in fault.context or fault.opened is None:
        return None
    line = _line_after(fault.text, fault.opened).rstrip()
    end = fault.opened + len(line)
    meant = re.fullmatch(r"([\w-]+)(?::|\s*=\s*)([^\s:=/][^#]*)", line)
    return Diagnosis(
        word="bad-yaml",
        start=fault.opened,
        end=max(end, fault.opened + 1),
        sentence="a key is expected here, followed by a colon and a space",
        hint=f"{meant[1]}: {meant[2].rstrip()}" if meant else None,
    )


def _content(fault: Fault) -> Diagnosis | None:
    if "node content" not in fault.problem:
        return None
    comment = "#" in _line_before(fault.text, fault.index)
    hint = (
        'a "#" begins a comment: put it in quotes' if comment else "put a text that begins with such a sign in quotes"
    )
    return _at(fault, "a key or a value is expected here", hint)


def _indentation(fault: Fault) -> Diagnosis | None:
    if not any(sign in fault.context + fault.problem for sign in ("block", "document start", "not allowed here")):
        return None
    if _line_before(fault.text, fault.index).strip():
        return _at(fault, "nothing more is expected on this line")
    return _at(fault, "this line does not fit the lines above", "indent it exactly like its neighbours")


def _at(fault: Fault, sentence: str, hint: str | None = None) -> Diagnosis:
    # At the very end there is nothing to point at: the last thing written is meant.
    index = fault.index
    if index >= len(fault.text.rstrip()):
        index = max(0, len(fault.text.rstrip()) - 1)
    return Diagnosis(word="bad-yaml", start=index, end=index + 1, sentence=sentence, hint=hint)


def _character(fault: Fault) -> str:
    return fault.text[fault.index : fault.index + 1] if "cannot start any token" in fault.problem else ""


def _line_before(text: str, index: int) -> str:
    return text[text.rfind("\n", 0, index) + 1 : index]


def _line_after(text: str, index: int) -> str:
    end = text.find("\n", index)
    return text[index : end if end >= 0 else len(text)]


def _closes(text: str, opened: int) -> bool:
    """Whether the bracket has a partner; quotes and comments are skipped."""
    depth: list[str] = []
    for character in _structure(text, opened):
        if character in "[{":
            depth.append(_CLOSER[character])
        elif depth and character == depth[-1]:
            depth.pop()
        if not depth:
            return True
    return False


def _open_bracket(text: str, index: int) -> int | None:
    """The innermost bracket that is still open at a position."""
    open_at: list[int] = []
    for position, character in enumerate(text[:index]):
        if character in "[{" and text[position - 1 : position] != "$":
            open_at.append(position)
        elif character in "]}" and open_at:
            open_at.pop()
    return open_at[-1] if open_at else None


def _structure(text: str, start: int) -> list[str]:
    bare = re.sub(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|(?<=\s)#[^\n]*|\$\{[^}\n]*\}', "", text[start:])
    return [character for character in bare if character in "[]{}"]
