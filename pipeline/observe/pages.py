"""What is served: `/healthz`, `/readyz`, `/metrics` and a status page. Reads, and changes nothing. Where the status
comes from, and which port this is, is not known here."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from html import escape
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.observe import metrics
from pipeline.observe.health import Connection, Numbers, Process, Registered, Status, why_not_ready

_HEADERS = {
    "Connection": "close",  # one request each, so that no connection lasts
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def pages(status: Callable[[], Status], *, hosts: Collection[str]) -> Starlette:
    """`hosts` are the names by which it may be asked, besides IP addresses and localhost."""

    def healthz() -> Response:
        return PlainTextResponse("ok\n")  # whoever reads this knows that the loop has answered

    def readyz() -> Response:
        reasons = why_not_ready(status())
        return PlainTextResponse("".join(f"{each}\n" for each in reasons or ["ready"]), 503 if reasons else 200)

    def numbers() -> Response:
        return Response(metrics.text(status()), media_type=metrics.CONTENT_TYPE)

    def page() -> Response:
        return Response(_page(status()), media_type="text/html; charset=utf-8")

    answers = {"/healthz": healthz, "/readyz": readyz, "/metrics": numbers, "/": page}
    return Starlette(
        routes=[Route(path, _endpoint(answer)) for path, answer in answers.items()],
        middleware=[Middleware(_Guard, hosts=hosts)],
    )


def _endpoint(answer: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return answer()

    return endpoint


class _Guard:
    """Refuses a Host that is not ours. A web page that a browser shows here could have its own name lead to this
    address (DNS rebinding) and read what we say; it cannot do that with an IP address."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {"localhost", *(each.casefold() for each in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        asked = Headers(scope=scope).getlist("host")
        app = self._app if all(map(self._is_ours, asked)) else _FORBIDDEN
        await app(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        return name.casefold().rstrip(".") in self._hosts or _is_address(name)


_FORBIDDEN = PlainTextResponse("this host name is not served here; see `runtime.http.hosts`\n", 403)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


# The status page


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 0 0 2em } th, td { text-align: left; padding: .2em 1.2em .2em 0 }
th { border-bottom: 1px solid #999 } td.n, th.n { text-align: right } .bad { color: #b00020; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } .bad { color: #ff8a80 } }
"""


def _page(status: Status) -> str:
    reasons = why_not_ready(status)
    names = list(dict.fromkeys(each.pipeline for each in (*status.consumers, *status.producers)))
    parts = [
        "<h1>Ready</h1>" if not reasons else '<h1 class="bad">Not ready</h1>' + _list(reasons),
        _numbers("Consumers", status.consumers),
        _numbers("Producers", status.producers),
        *(_process(each) for each in status.processes),
        '<p><a href="/metrics">/metrics</a> · <a href="/readyz">/readyz</a> · <a href="/healthz">/healthz</a></p>',
    ]
    title = escape(", ".join(names) or "piperun")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="refresh" content="5"><style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )


def _numbers(title: str, numbers: Sequence[Numbers]) -> str:
    if not numbers:
        return ""
    terms = list(numbers[0].terms)
    rows = [[each.pipeline, each.name, *(each.terms[term] for term in terms)] for each in numbers]
    return _table(title, ["pipeline", "name", *(term.replace("_", " ") for term in terms)], rows)


def _process(process: Process) -> str:
    title = f"{process.name or 'Process'}: {process.phase}{f' ({process.reason})' if process.reason else ''}"
    rows = [[each.pipeline, f"connection {each.name}", *_line(each)] for each in process.connections]
    rows += [[each.pipeline, f"consumer {each.consumer}", *_state(each)] for each in process.consumers]
    return _table(title.capitalize(), ["pipeline", "part", "state", "why"], rows)


def _line(connection: Connection) -> list[str]:
    state = "blocked" if connection.blocked else "up" if connection.up else "down"
    return [f"{state}, made again {connection.reconnects} times" if connection.reconnects else state, connection.reason]


def _state(consumer: Registered) -> list[str]:
    return [consumer.state, consumer.reason]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    first = "".join(f"<th>{escape(each)}</th>" for each in head)
    rest = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{first}</tr>{rest}</table>"


def _cell(value: object) -> str:
    number = ' class="n"' if isinstance(value, int) else ""
    return f"<td{number}>{escape(str(value))}</td>"


def _list(reasons: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in reasons) + "</ul>"
