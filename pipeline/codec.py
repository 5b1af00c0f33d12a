"""Bodies to values and back. The content type decides how a body is read, and the handler's annotation what becomes of
it; where there is no content type that says something, the annotation decides both. A converter is made once per
handler. What happens to a message that cannot be read is not known here. Hot: `decode`, `encode`."""

import re
import sys
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from inspect import Parameter
from operator import attrgetter
from typing import Annotated, Any, Literal, NewType, Union, cast, get_args, get_origin

import msgspec

from pipeline.message import Message

Content = Literal["json", "text", "bytes", "msgpack"]
Decode = Callable[[Message], object]

LONGEST_SENTENCE = 300

_BYTES: tuple[object, ...] = (bytes, bytearray, memoryview)
_ANYTHING = (Parameter.empty, Any, object)

# kombu, and thus Celery, writes a charset or "binary" where AMQP means a compression.
_NOT_COMPRESSED = ("", "identity", "binary", "7bit", "8bit", "utf-8", "utf8", "us-ascii", "ascii")


class DecodeError(Exception):
    """Raised when a body cannot be read or does not fit the annotation. The text is a bounded sentence that never
    holds the body."""


class EncodeError(Exception):
    """Raised when a value is neither bytes nor text nor something that JSON can say."""


def decoder(annotation: object, content: Content | None) -> Decode:
    """A function from a message to the value for a parameter with that annotation (`Parameter.empty` for none).

    - `content` says what the body is, else the message's content type does: JSON (also `+json`), text with its charset,
      msgpack. `application/octet-stream` names no format and counts like an unknown type or none: then bytes stay bytes
      where the annotation is bytes or nothing, become text where it is `str`, and are read as JSON for any other.
    - Bytes are what they are asked for as `bytes`, whatever the content type and encoding: that is the way to a
      compressed body. `str` is the text of a text body, and of a JSON body the string that stands in it.
    - Text becomes a number, a date or the like where the annotation says so. An annotation may be optional, a union,
      `Annotated`, or hold pydantic models.

    The function raises `DecodeError`. Making it raises `TypeError` for what `check_annotation` complains about."""
    raw = _raw(annotation)
    if raw is bytes:
        return attrgetter("body")  # always bytes on a received message; no property of it is looked at
    chosen = _chooser(annotation, content)

    def decode(message: Message) -> object:
        kind, read = chosen(message.content_type)
        body = cast(bytes, message.body)
        try:
            # Inline, for the content encoding is nearly always None.
            if kind != "bytes" and raw is None and (encoding := message.content_encoding) is not None:
                _refuse_compressed(encoding)
            return read(body)
        except (DecodeError, MemoryError):  # memory is the machine's fault and not the body's
            raise
        except Exception as error:
            raise DecodeError(_complaint(error, kind, annotation, body, fixed=content is not None)) from error

    return decode


_Read = Callable[[bytes], object]
_Choose = Callable[[str | None], tuple[Content, _Read]]


def _chooser(annotation: object, content: Content | None) -> _Choose:
    """From a content type to the kind of the body and what reads it. Chosen once per content type: the plain form,
    readers looked up by kind and called with body and charset, costs two more calls for each message."""
    readers = _readers(annotation)
    by_annotation = _by_annotation(annotation)

    @lru_cache(maxsize=64)  # content types come from strangers
    def chosen(content_type: str | None) -> tuple[Content, _Read]:
        said, charset = _known(content_type) if content_type else (None, "utf-8")
        kind = content or said or by_annotation
        return kind, readers[kind](charset)

    return chosen


def encode(value: object) -> tuple[bytes, str | None]:
    """A value as a body, and its content type: bytes stay, and have none, for what is in them nobody has said; text
    becomes UTF-8, anything else JSON (dataclasses, Structs, pydantic models, dates, decimals, sets...; NaN and infinity
    become null). Raises `EncodeError`."""
    try:
        if isinstance(value, bytes):
            return value, None
        if isinstance(value, bytearray | memoryview):
            return bytes(value), None
        if isinstance(value, str):
            return value.encode(), "text/plain; charset=utf-8"
        return _JSON.encode(value), "application/json"
    except RecursionError:
        raise EncodeError(f"a {type(value).__name__} nested too deeply, or holding itself, cannot be sent") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise EncodeError(_bounded(f"a {type(value).__name__} cannot be sent as a body: {error}")) from error


def check_annotation(annotation: object, content: Content | None = None) -> str | None:
    """A sentence when no body can be converted to this annotation, or none that `content` allows; else None."""
    if _plain(annotation) in _ANYTHING or _raw(annotation):
        return None
    if content == "bytes":
        return f"`content: bytes` hands over bytes, which do not become {_named(annotation)}"
    try:
        stranger = next(_strangers(annotation), None)
        _readers(annotation)
    except Exception as error:  # msgspec and pydantic have a kind of their own for each mistake
        return _bounded(f"a body cannot be converted to {_named(annotation)}: {error}")
    if stranger is not None:
        return (
            f'a body cannot be converted to "{stranger.__name__}", which is neither a dataclass, a TypedDict, a '
            "msgspec.Struct, a pydantic model nor one of Python's own types"
        )
    return None


# --- how an annotation is read -------------------------------------------------------------------------------------


def _plain(annotation: object) -> object:
    """Without `Annotated`, `NewType` and the None of an optional."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if isinstance(annotation, NewType):
        return _plain(annotation.__supertype__)
    if get_origin(annotation) in (Union, types.UnionType):
        wanted = [each for each in get_args(annotation) if each is not types.NoneType]
        return _plain(wanted[0]) if len(wanted) == 1 else annotation
    return annotation


def _raw(annotation: object) -> Callable[[bytes], object] | None:
    """What makes the asked kind of bytes, where the annotation asks for bytes."""
    plain = _plain(annotation)
    return cast(Callable[[bytes], object], plain) if plain in _BYTES else None


def _by_annotation(annotation: object) -> Content:
    plain = _plain(annotation)
    if plain in _ANYTHING or plain in _BYTES:
        return "bytes"
    return "text" if plain is str else "json"


def _named(annotation: object) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)[:80]


_ReadIn = Callable[[str], _Read]  # from a charset


def _readers(annotation: object) -> dict[Content, _ReadIn]:
    """What reads each kind of body; the charset counts for text alone."""
    if raw := _raw(annotation):
        return dict.fromkeys(("json", "text", "bytes", "msgpack"), lambda _: raw)
    wanted = Any if annotation in _ANYTHING else annotation
    json, msgpack, convert = _pydantic(wanted) if _is_pydantic(wanted) else _msgspec(wanted)
    # An optional text is not converted either: to msgspec the text "null" would be None.
    as_is = wanted is Any or (_plain(wanted) is str and get_origin(wanted) is not Annotated)
    return {
        "json": lambda _: json,
        "msgpack": lambda _: msgpack,
        "text": _text if as_is else lambda charset: lambda body: convert(body.decode(charset)),
        "bytes": lambda _: _as_it_is if wanted is Any else convert,
    }


def _text(charset: str) -> _Read:
    return lambda body: body.decode(charset)


def _as_it_is(body: bytes) -> bytes:
    return body


_Conversions = tuple[Callable[[bytes], object], Callable[[bytes], object], Callable[[object], object]]


def _msgspec(wanted: Any) -> _Conversions:
    return (
        msgspec.json.Decoder(wanted).decode,
        msgspec.msgpack.Decoder(wanted).decode,
        lambda value: msgspec.convert(value, wanted, strict=False),
    )


def _pydantic(wanted: Any) -> _Conversions:
    import pydantic  # optional; somebody who hands in a model has it

    adapter: pydantic.TypeAdapter[object] = pydantic.TypeAdapter(wanted)
    msgpack = msgspec.msgpack.Decoder()
    return adapter.validate_json, lambda body: adapter.validate_python(msgpack.decode(body)), adapter.validate_python


def _is_pydantic(annotation: object) -> bool:
    # msgspec takes a pydantic dataclass for a plain one and would build it without its checks.
    return any(hasattr(each, "__pydantic_validator__") for each, _ in _classes(annotation))


def _strangers(annotation: object) -> Iterator[type]:
    """Classes that msgspec lets pass and would never make."""
    for each, known in _classes(annotation):
        if not known and not hasattr(each, "__pydantic_validator__"):
            yield each


def _classes(annotation: object) -> Iterator[tuple[type, bool]]:
    """Each class in an annotation, fields included, and whether msgspec knows how to make it."""
    waiting: list[object] = [msgspec.inspect.type_info(Any if annotation in _ANYTHING else annotation)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, msgspec.Struct) and id(node) not in seen:  # a class may hold itself
            seen.add(id(node))
            if isinstance(cls := getattr(node, "cls", None), type):
                yield cls, not isinstance(node, msgspec.inspect.CustomType)
            waiting += [getattr(node, field) for field in node.__struct_fields__]


# --- what a message says about its body ------------------------------------------------------------------------------


def _known(content_type: str) -> tuple[Content | None, str]:
    essence, *parameters = (part.strip() for part in content_type.split(";"))
    charset = "utf-8"
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"')
    return _kind(essence.lower()), charset


def _kind(essence: str) -> Content | None:
    if essence in ("application/json", "text/json") or essence.endswith("+json"):
        return "json"
    if essence in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        return "msgpack"
    return "text" if essence.startswith("text/") else None


def _refuse_compressed(encoding: str) -> None:
    if encoding.lower() not in _NOT_COMPRESSED:
        raise DecodeError(
            f'the body came with content_encoding "{encoding[:40]}", which is not unpacked here; '
            "a handler that asks for `body: bytes` gets it as it came"
        )


# --- sentences -------------------------------------------------------------------------------------------------------

_VALUE = re.compile(r"(Invalid (?:enum )?value) .*?(?= - at `|$)", re.DOTALL)
_CALLED = {"json": "JSON", "text": "text", "msgpack": "msgpack", "bytes": "bytes"}


def _complaint(error: Exception, kind: Content, annotation: object, body: bytes, *, fixed: bool) -> str:
    if not body and kind in ("json", "msgpack"):
        return f"the body is empty, where {_CALLED[kind]} was expected"
    if isinstance(error, RecursionError):
        return f"the body is {_CALLED[kind]} nested too deeply to be read"
    if isinstance(error, UnicodeError | LookupError) and kind == "text":
        return _bounded(f"the body is not text in the charset it claims: {_reason(error)}")
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return _bounded(f"the body is not {_CALLED[kind]}: {error}")
    way_out = "" if fixed or kind != "text" else "; `content: json` on the consumer reads a text as JSON"
    return _bounded(f"the body does not fit {_named(annotation)}: {_reason(error)}", way_out)


def _reason(error: Exception) -> str:
    """Never with a value: what msgspec, pydantic and Python's codecs show of the input is left out."""
    if isinstance(error, UnicodeDecodeError):
        return f"{error.reason} at byte {error.start} ({error.encoding})"
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        found = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in found[:3])
    if isinstance(error, msgspec.MsgspecError):
        return _VALUE.sub(r"\1", str(error))
    return f"{type(error).__name__}: {error}"


def _bounded(sentence: str, way_out: str = "") -> str:
    room = LONGEST_SENTENCE - len(way_out)
    return (sentence if len(sentence) <= room else sentence[: room - 1] + "…") + way_out


def _beyond_msgspec(value: object) -> object:
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"JSON cannot hold a {type(value).__name__} here")


_JSON = msgspec.json.Encoder(enc_hook=_beyond_msgspec)
