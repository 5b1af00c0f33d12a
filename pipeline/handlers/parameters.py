"""What each parameter of a handler asks for: by its name, by a telling annotation, or as the first one, which gets the
body. How the handler is called is not known here."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.handlers.context import Context
from pipeline.message import Message
from pipeline.values import Frozen

What = Literal["message", "body", "headers", "context", "messages"]

NAMES: tuple[What, ...] = ("message", "body", "headers", "context")
_ALL_NAMES: dict[str, What] = {each: each for each in (*NAMES, "messages")}
_STREAMS: tuple[Any, ...] = (AsyncIterator, AsyncIterable, AsyncGenerator)
_UNSAID: tuple[Any, ...] = (inspect.Parameter.empty, Any, object)


class SignatureProblem(Exception):
    """Raised when piperun cannot call this as a handler or open it as a lifespan: the word, the sentence and the way
    out of a diagnostic."""

    def __init__(self, sentence: str, hint: str, *, word: str = "handler-signature") -> None:
        super().__init__(sentence)
        self.word = word
        self.sentence = sentence
        self.hint = hint


class Asked(Frozen, frozen=True, kw_only=True):
    """One parameter that must be filled. `what` is None where nobody can; `annotation` counts for a body only."""

    name: str
    what: What | None
    annotation: Any
    positional: bool


def asked_of(parameters: list[inspect.Parameter], written: Callable[..., Any], name: str) -> list[Asked]:
    """The parameters to be filled, in order. Left alone is what has a default and an unknown name (the first one, which
    gets the body, excepted), and `**keywords`. A lone `*arguments` gets the body: so look decorators that do not say
    what they wrap. Raises `SignatureProblem` for annotations that cannot be read or contradict the name."""
    asked: list[Asked] = []
    gap = False  # after a parameter that is left alone, the others go by keyword
    for parameter in parameters:
        what = _what(parameter, written, name, first=not asked)
        if what == "left alone":
            gap = True
            continue
        positional = not gap and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        if not positional and parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            continue
        annotation = parameter.empty
        if what == "body" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            annotation = _annotation(parameter, written, name)
        asked.append(Asked(name=parameter.name, what=what, annotation=annotation, positional=positional))
    return asked


def _what(
    parameter: inspect.Parameter, written: Callable[..., Any], name: str, *, first: bool
) -> What | Literal["left alone"] | None:
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return "left alone"
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return "body" if first else "left alone"
    if parameter.name in _ALL_NAMES:
        if parameter.name == "messages":
            _check_messages(_annotation(parameter, written, name), name)
        return _ALL_NAMES[parameter.name]
    if parameter.default is not parameter.empty and (parameter.kind is parameter.KEYWORD_ONLY or not first):
        return "left alone"
    try:
        told = _told(_annotation(parameter, written, name), name)
    except SignatureProblem:
        if first:
            raise
        told = None
    return told or ("body" if first else None)


def _annotation(parameter: inspect.Parameter, written: Callable[..., Any], name: str) -> Any:
    """Resolved where it is text; one by one, so that a name that nobody needs may stay unknown."""
    if parameter.annotation is parameter.empty:
        return parameter.empty
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(alone, getattr(written, "__globals__", {}), {}, include_extras=True)["it"]
    except Exception as error:  # an annotation is any expression
        raise SignatureProblem(
            f'the annotation of "{parameter.name}" in "{name}" cannot be read: {error}',
            "import what it names at the top of the module, and not under TYPE_CHECKING only",
        ) from None


def _told(annotation: Any, name: str) -> What | None:
    """What an annotation says whatever the parameter's name."""
    if annotation is Message:
        return "message"
    if annotation is Context:
        return "context"
    if annotation in _STREAMS or get_origin(annotation) in _STREAMS:
        _check_messages(annotation, name)
        return "messages"
    return None


def _check_messages(annotation: Any, name: str) -> None:
    if annotation in _UNSAID or annotation in _STREAMS:
        return
    item = get_args(annotation)[:1]
    if get_origin(annotation) not in _STREAMS or item not in ((Message,), (Any,)):
        raise SignatureProblem(
            f'"{name}" gets its messages one by one as pipeline.Message, not as {annotation}',
            "annotate it messages: AsyncIterator[Message]",
        )
