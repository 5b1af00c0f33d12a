"""A callable to a call plan: which kind it is, and what each of its parameters gets. What cannot be called is a problem
here, before anything connects. Messages, threads and loops are not known here."""

import inspect
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, Literal, cast

from pipeline.codec import check_annotation, decoder
from pipeline.config.model import Ack, Content
from pipeline.handlers.parameters import NAMES, Asked, SignatureProblem, asked_of
from pipeline.problems import did_you_mean
from pipeline.values import Frozen

Kind = Literal["coroutine", "thread", "async_generator", "generator", "stream", "stream_generator"]
Fill = Callable[[Any, Any], object]  # from the message (a stream's iterator) and the context to one argument
FillAlone = Callable[[Any], object]  # from the message to the only argument


class CallPlan(Frozen, frozen=True, kw_only=True):
    """How to call one handler. The fills make its arguments; one that needs the body raises `DecodeError`. Where there
    is one argument only, `alone` makes it, without a list, a dictionary and a call between; else it is None."""

    name: str
    function: Callable[..., Any]
    kind: Kind
    positional: tuple[Fill, ...]
    keywords: tuple[tuple[str, Fill], ...]
    alone: FillAlone | None
    asks_context: bool

    @property
    def is_stream(self) -> bool:
        """Whether it loops over messages itself, which `handlers.stream` runs; `handlers.call` runs the others."""
        return self.kind in ("stream", "stream_generator")


def plan(function: object, *, name: str, content: Content | None, ack: Ack) -> CallPlan:
    """How to call `function`, which sentences call `name`. Raises `SignatureProblem`."""
    called = _callable(function, name)
    written = _written(called)
    asked = asked_of(_parameters(called, name), written, name)
    _check_all_filled(asked, name)
    if any(each.what == "messages" for each in asked):
        _check_stream(asked, written, name)
        kind: Kind = "stream_generator" if inspect.isasyncgenfunction(written) else "stream"
    else:
        kind = _kind(called)
    if ack == "manual":
        _check_manual(asked, kind, written, name)
    return CallPlan(
        name=name,
        function=called,
        kind=kind,
        positional=tuple(_fill(each, name, content) for each in asked if each.positional),
        keywords=tuple((each.name, _fill(each, name, content)) for each in asked if not each.positional),
        alone=_alone(asked[0], name, content) if len(asked) == 1 and asked[0].positional else None,
        asks_context=any(each.what in ("context", "messages") for each in asked),
    )


def _callable(function: object, name: str) -> Callable[..., Any]:
    if inspect.isclass(function):
        raise SignatureProblem(
            f'"{name}" is a class, and a handler is called once for each message',
            f"make an object in the module, for example handle = {function.__name__}(), and write its name",
        )
    if not callable(function):
        raise SignatureProblem(f'"{name}" is {_a(function)}, which cannot be called', "name a function")
    return cast(Callable[..., Any], function)


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"


def _written(called: Any) -> Any:
    """The function that somebody wrote: under partial, a bound method, an object with `__call__`, and decorators that
    say what they wrap."""
    while True:
        if isinstance(called, partial):
            called = called.func
        elif inspect.ismethod(called):
            called = called.__func__
        elif hasattr(called, "__wrapped__"):
            called = called.__wrapped__
        elif not inspect.isroutine(called):
            called = type(called).__call__
        else:
            return called


def _parameters(called: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except ValueError:
        raise SignatureProblem(
            f'"{name}" does not tell which parameters it has', "put a function of your own around it"
        ) from None
    if parameters and parameters[0].name == "self" and inspect.isfunction(called):
        raise SignatureProblem(
            f'"{name}" is a method without its object', "make the object in the module and write a name for its method"
        )
    return parameters


def _check_all_filled(asked: list[Asked], name: str) -> None:
    unknown = [each.name for each in asked if each.what is None]
    if unknown:
        near = did_you_mean(unknown[0], NAMES)
        raise SignatureProblem(
            f'piperun calls "{name}" with the body first, and by name with {", ".join(NAMES)}; it cannot fill '
            + " and ".join(f'"{each}"' for each in unknown),
            near or f'give "{unknown[0]}" a default, or let `lifespan` make it and read context.state',
        )


def _check_stream(asked: list[Asked], written: Callable[..., Any], name: str) -> None:
    if not _is_async(written):
        raise SignatureProblem(
            f'"{name}" asks for messages, which come asynchronously, and is a plain function',
            "write async def, and in it: async for message in messages",
        )
    others = [each.name for each in asked if each.what not in ("messages", "context")]
    if others:
        raise SignatureProblem(
            f'"{name}" loops over messages; there is no single one from which to fill '
            + " and ".join(f'"{each}"' for each in others),
            "ask for messages and context only: each message has its own body and headers",
        )


def _check_manual(asked: list[Asked], kind: Kind, written: Callable[..., Any], name: str) -> None:
    if kind in ("thread", "generator") and not _is_async(written):
        raise SignatureProblem(
            f'with `ack: manual` the handler awaits message.ack(), and "{name}" is a plain function',
            "write async def, or leave `ack` out: then returning acknowledges",
            word="manual-needs-async",
        )
    if not any(each.what in ("message", "messages") for each in asked):
        raise SignatureProblem(
            f'with `ack: manual` the handler awaits message.ack(), and "{name}" does not ask for message',
            "add a parameter named message, or leave `ack` out: then returning acknowledges",
        )


def _is_async(written: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)


def _kind(called: Any) -> Kind:
    """By what is called and not by what that wraps: a plain decorator may block, or run a loop of its own."""
    while isinstance(called, partial):
        called = called.func
    if inspect.iscoroutinefunction(called):  # an object may be marked as one by inspect.markcoroutinefunction
        return "coroutine"
    if not inspect.isroutine(called):
        called = type(called).__call__
    if inspect.iscoroutinefunction(called):
        return "coroutine"
    if inspect.isasyncgenfunction(called):
        return "async_generator"
    return "generator" if inspect.isgeneratorfunction(called) else "thread"


def _fill(asked: Asked, name: str, content: Content | None) -> Fill:
    if asked.what == "context":
        return _context
    fill = _of_message(asked, name, content)
    return lambda message, _: fill(message)


def _alone(asked: Asked, name: str, content: Content | None) -> FillAlone | None:
    return None if asked.what == "context" else _of_message(asked, name, content)


def _of_message(asked: Asked, name: str, content: Content | None) -> FillAlone:
    match asked.what:
        case "message" | "messages":
            return _given
        case "headers":
            return attrgetter("headers")
        case "body":
            return _body(asked, name, content)
        case "context" | None:
            raise AssertionError("checked before")


def _body(asked: Asked, name: str, content: Content | None) -> FillAlone:
    sentence = check_annotation(asked.annotation, content)
    if sentence is not None:
        raise SignatureProblem(
            f'"{asked.name}" of "{name}": {sentence}', "annotate it with what the body holds, or with nothing"
        )
    return decoder(asked.annotation, content)


def _given(given: object) -> object:
    return given


def _context(_: object, context: object) -> object:
    return context
