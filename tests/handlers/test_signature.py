"""What can be a handler, what each of its parameters gets, and what is said about the rest."""

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.codec import Content, DecodeError
from pipeline.config.model import Ack
from pipeline.handlers.context import Context
from pipeline.handlers.parameters import SignatureProblem
from pipeline.handlers.signature import CallPlan, Kind, plan
from pipeline.message import Message

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Order:
    id: int


MESSAGE = Message(b'{"id": 4}', headers={"tenant": "a"})
CONTEXT: Any = object()  # a plan only hands it on
ORDER = Order(4)
BODY = b'{"id": 4}'


def made(function: object, *, content: Content | None = None, ack: Ack = "on_success") -> CallPlan:
    return plan(function, name="charge", content=content, ack=ack)


def arguments(call: CallPlan, given: object = MESSAGE) -> tuple[list[object], dict[str, object]]:
    return [fill(given, CONTEXT) for fill in call.positional], {
        name: fill(given, CONTEXT) for name, fill in call.keywords
    }


# --- who gets what ---------------------------------------------------------------------------------------------------


def nothing() -> None: ...
def first(order: Order) -> None: ...
def unannotated(order): ...  # type: ignore[no-untyped-def]  # what it is about
def text(line: str) -> None: ...
def as_text(order: "Order") -> None: ...
def inside_text(orders: "Order | list[Order]") -> None: ...
def all_names(body: bytes, message: Message, headers: dict[str, object], context: Context) -> None: ...
def other_order(context: Context, headers: dict[str, object], message: Message, body: Order) -> None: ...
def first_and_body(order: Order, body: bytes) -> None: ...
def by_keyword(*, order: Order, message: Message) -> None: ...
def positional_only(order: Order, message: Message, /) -> None: ...
def message_by_annotation(msg: Message) -> None: ...
def context_by_annotation(order: Order, ctx: Context) -> None: ...
def defaults_left_alone(order: Order, retries: int = 3, *, db: object = None) -> None: ...
def default_between(order: Order, retries: int = 3, message: Message | None = None) -> None: ...
def default_between_positional(order: Order, retries: int = 3, message: Message | None = None, /) -> None: ...
def first_with_default(order: Order = ORDER) -> None: ...
def keyword_default_first(*, db: object = None, order: Order) -> None: ...
def rest(order: Order, *more: object, **others: object) -> None: ...
def only_rest(*arguments: object, **keywords: object) -> None: ...
def only_message(message: Message) -> None: ...
def unknown_annotation_left_alone(order: Order, price: "Decimal | None" = None) -> "Decimal": ...  # type: ignore[empty-body]


class Desk:
    def method(self, order: Order, headers: dict[str, object]) -> None: ...

    @staticmethod
    def static(order: Order) -> None: ...

    @classmethod
    def of_class(cls, order: Order) -> None: ...

    def __call__(self, order: Order, message: Message) -> None: ...


def with_database(order: Order, db: str, message: Message) -> None: ...
def database_first(db: str, order: Order) -> None: ...


@functools.wraps(first)
def decorated(*arguments: Any, **keywords: Any) -> None:
    first(*arguments, **keywords)


HEADERS = {"tenant": "a"}


@pytest.mark.parametrize(
    ("function", "positional", "keywords"),
    [
        (nothing, [], {}),
        (first, [ORDER], {}),
        (unannotated, [BODY], {}),
        (text, [BODY.decode()], {}),
        (as_text, [ORDER], {}),
        (inside_text, [ORDER], {}),
        (all_names, [BODY, MESSAGE, HEADERS, CONTEXT], {}),
        (other_order, [CONTEXT, HEADERS, MESSAGE, ORDER], {}),
        (first_and_body, [ORDER, BODY], {}),
        (by_keyword, [], {"order": ORDER, "message": MESSAGE}),
        (positional_only, [ORDER, MESSAGE], {}),
        (message_by_annotation, [MESSAGE], {}),
        (context_by_annotation, [ORDER, CONTEXT], {}),
        (defaults_left_alone, [ORDER], {}),
        (default_between, [ORDER], {"message": MESSAGE}),
        (default_between_positional, [ORDER], {}),
        (first_with_default, [ORDER], {}),
        (keyword_default_first, [], {"order": ORDER}),
        (rest, [ORDER], {}),
        (only_rest, [BODY], {}),
        (only_message, [MESSAGE], {}),
        (unknown_annotation_left_alone, [ORDER], {}),
        (Desk().method, [ORDER, HEADERS], {}),
        (Desk.static, [ORDER], {}),
        (Desk.of_class, [ORDER], {}),
        (Desk(), [ORDER, MESSAGE], {}),
        (functools.partial(with_database, db="here"), [ORDER], {"message": MESSAGE}),
        (functools.partial(database_first, "here"), [ORDER], {}),
        (functools.partial(database_first, db="here"), [], {"order": ORDER}),
        (decorated, [ORDER], {}),
    ],
)
def test_each_parameter_gets_what_it_asks_for(
    function: Callable[..., Any], positional: list[object], keywords: dict[str, object]
) -> None:
    call = made(function)
    assert arguments(call) == (positional, keywords)
    call.function(*positional, **keywords)  # and the function takes it


def test_a_body_is_decoded_only_for_those_who_ask() -> None:
    broken = Message(b"{", content_type="application/json")
    for function in (nothing, only_message, message_by_annotation):
        arguments(made(function), broken)
    with pytest.raises(DecodeError):
        arguments(made(first), broken)


def test_content_is_used_for_the_body() -> None:
    assert arguments(made(unannotated, content="json"))[0] == [{"id": 4}]


# --- kinds -----------------------------------------------------------------------------------------------------------


async def coroutine(order: Order) -> None: ...


async def values(order: Order) -> AsyncIterator[int]:
    yield 1


def plain_values(order: Order) -> Iterator[int]:
    yield 1


class Async:
    async def __call__(self, order: Order) -> None: ...


class Yielding:
    async def __call__(self, order: Order) -> AsyncIterator[int]:
        yield 1


@functools.wraps(coroutine)
async def async_wrapper(*arguments: Any) -> None:
    await coroutine(*arguments)


@functools.wraps(coroutine)
def plain_wrapper(*arguments: Any) -> Any:
    return coroutine(*arguments)


async def stream(messages: AsyncIterator[Message]) -> None: ...
async def unannotated_stream(messages, context): ...  # type: ignore[no-untyped-def]  # what it is about
async def named_otherwise(deliveries: AsyncIterable[Message]) -> None: ...
async def as_text_stream(deliveries: "AsyncGenerator[Message, None]") -> None: ...
async def bare_stream(messages: AsyncIterator) -> None: ...  # type: ignore[type-arg]  # what it is about


async def yielding_stream(context: Context, messages: AsyncIterator[Message]) -> AsyncIterator[int]:
    yield 1


class Loop:
    async def run(self, messages: AsyncIterator[Message]) -> None: ...


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (coroutine, "coroutine"),
        (first, "thread"),
        (print, "thread"),
        (lambda order: order, "thread"),
        (values, "async_generator"),
        (plain_values, "generator"),
        (Async(), "coroutine"),
        (Async().__call__, "coroutine"),
        (Yielding(), "async_generator"),
        (Desk(), "thread"),
        (Desk().method, "thread"),
        (functools.partial(coroutine), "coroutine"),
        (functools.partial(functools.partial(Async())), "coroutine"),
        (functools.partial(values), "async_generator"),
        (functools.partial(plain_values), "generator"),
        (async_wrapper, "coroutine"),
        (plain_wrapper, "thread"),
        (stream, "stream"),
        (unannotated_stream, "stream"),
        (named_otherwise, "stream"),
        (as_text_stream, "stream"),
        (bare_stream, "stream"),
        (yielding_stream, "stream_generator"),
        (Loop().run, "stream"),
        (functools.partial(stream), "stream"),
    ],
)
def test_each_callable_has_its_kind(function: object, kind: Kind) -> None:
    call = made(function)
    assert call.kind == kind
    assert call.is_stream == kind.startswith("stream")


def test_a_stream_gets_its_messages_and_its_context_where_it_asks_for_them() -> None:
    given = object()
    assert arguments(made(yielding_stream), given) == ([CONTEXT, given], {})


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="from Python 3.12")
def test_a_marked_function_is_a_coroutine_function() -> None:
    def marked(order: Order) -> Any:
        return coroutine(order)

    mark = getattr(inspect, "markcoroutinefunction")  # noqa: B009  # mypy checks against 3.11, which lacks it
    assert made(mark(marked)).kind == "coroutine"


# --- problems --------------------------------------------------------------------------------------------------------


def needs_db(order, db): ...  # type: ignore[no-untyped-def]  # the case of the design page
def needs_more(order: Order, db: object, cache: object) -> None: ...
def misspelt(order: Order, mesage: object) -> None: ...
def second_body(message: Message, order: Order) -> None: ...
def unknown_type(order: "Decimal") -> None: ...
def broken_type(order: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722  # what it is about
def odd_type(order: Desk) -> None: ...
def plain_stream(messages: AsyncIterator[Message]) -> None: ...
async def many(messages: list[Message]) -> None: ...
async def decoded_stream(orders: AsyncIterator[Order]) -> None: ...
async def stream_and_body(messages: AsyncIterator[Message], body: bytes) -> None: ...


CALLS = 'piperun calls "charge" with the body first, and by name with message, body, headers, context; it cannot fill '


def otherwise_made(name: str) -> str:
    return f'give "{name}" a default, or let `lifespan` make it and read context.state'


@pytest.mark.parametrize(
    ("function", "sentence", "hint"),
    [
        (needs_db, CALLS + '"db"', otherwise_made("db")),
        (
            needs_more,
            CALLS + '"db" and "cache"',
            otherwise_made("db"),
        ),
        (misspelt, CALLS + '"mesage"', 'did you mean "message"?'),
        (second_body, CALLS + '"order"', otherwise_made("order")),
        (
            Desk,
            '"charge" is a class, and a handler is called once for each message',
            "make an object in the module, for example handle = Desk(), and write its name",
        ),
        (
            Desk.method,
            '"charge" is a method without its object',
            "make the object in the module and write a name for its method",
        ),
        ("text", '"charge" is a str, which cannot be called', "name a function"),
        (4, '"charge" is an int, which cannot be called', "name a function"),
        (
            unknown_type,
            'the annotation of "order" in "charge" cannot be read: name \'Decimal\' is not defined',
            "import what it names at the top of the module, and not under TYPE_CHECKING only",
        ),
        (
            odd_type,
            '"order" of "charge": a body cannot be converted to "Desk", which is neither a dataclass, a TypedDict, a '
            "msgspec.Struct, a pydantic model nor one of Python's own types",
            "annotate it with what the body holds, or with nothing",
        ),
        (
            plain_stream,
            '"charge" asks for messages, which come asynchronously, and is a plain function',
            "write async def, and in it: async for message in messages",
        ),
        (
            many,
            '"charge" gets its messages one by one as pipeline.Message, not as list[pipeline.message.Message]',
            "annotate it messages: AsyncIterator[Message]",
        ),
        (
            stream_and_body,
            '"charge" loops over messages; there is no single one from which to fill "body"',
            "ask for messages and context only: each message has its own body and headers",
        ),
    ],
)
def test_what_cannot_be_called_is_told_with_a_way_out(function: object, sentence: str, hint: str) -> None:
    with pytest.raises(SignatureProblem) as told:
        made(function)
    assert (told.value.word, told.value.sentence, told.value.hint) == ("handler-signature", sentence, hint)
    assert str(told.value) == sentence


@pytest.mark.parametrize("function", [broken_type, decoded_stream, min, type])
def test_nothing_else_than_a_problem_comes_out(function: object) -> None:
    with pytest.raises(SignatureProblem):
        made(function)


def test_an_annotation_that_contradicts_content_is_told() -> None:
    with pytest.raises(SignatureProblem, match="`content: bytes` hands over bytes, which do not become Order"):
        made(first, content="bytes")


# --- ack: manual -----------------------------------------------------------------------------------------------------


async def manual(message: Message) -> None: ...
async def manual_by_annotation(msg: Message) -> None: ...


async def manual_values(message: Message) -> AsyncIterator[int]:
    yield 1


@functools.wraps(manual)
def manual_wrapper(*arguments: Any) -> Any:
    return manual(*arguments)


def plain_manual(message: Message) -> None: ...


def plain_manual_values(message: Message) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [manual, manual_by_annotation, manual_values, manual_wrapper, stream])
def test_a_handler_that_can_settle_itself_may(function: object) -> None:
    made(function, ack="manual")


@pytest.mark.parametrize("function", [plain_manual, plain_manual_values])
def test_a_plain_function_cannot_await_the_ack(function: object) -> None:
    with pytest.raises(SignatureProblem) as told:
        made(function, ack="manual")
    assert told.value.word == "manual-needs-async"
    assert told.value.sentence == (
        'with `ack: manual` the handler awaits message.ack(), and "charge" is a plain function'
    )
    assert told.value.hint == "write async def, or leave `ack` out: then returning acknowledges"
    made(function, ack="none")


def test_a_handler_that_does_not_see_the_message_cannot_settle_it() -> None:
    with pytest.raises(SignatureProblem, match='"charge" does not ask for message'):
        made(coroutine, ack="manual")
