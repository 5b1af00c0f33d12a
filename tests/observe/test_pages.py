"""The four pages, asked without a line: who is answered, with what, and what never gets out."""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import pytest

from pipeline.observe.health import Status
from pipeline.observe.pages import pages
from tests.observe.statuses import a_connection, a_process, a_registered, a_status, consumed


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


def ask(path: str, status: Status | None = None, *hosts: str, method: str = "GET") -> Answer:
    """`hosts` are the Host headers of the request."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", host.encode()) for host in hosts or ("127.0.0.1:9419",)],
    }
    application = pages(lambda: status or a_status(), hosts=("Metrics.example.org",))
    asyncio.run(application(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(each["body"] for each in sent[1:]).decode())


DOWN = a_status(a_process(connections=(a_connection(up=False, reason="reset by peer"),)))


def test_the_loop_that_answers_is_alive_whether_ready_or_not() -> None:
    assert ask("/healthz")[::2] == ask("/healthz", DOWN)[::2] == (200, "ok\n")


def test_ready_is_200_and_otherwise_each_reason_is_a_line() -> None:
    assert ask("/readyz")[::2] == (200, "ready\n")
    assert ask("/readyz", DOWN)[::2] == (503, "shop: the publish connection is down: reset by peer\n")


def test_metrics_have_their_type() -> None:
    answer = ask("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\npiperun_processes_wanted 1\n" in answer.body


def test_the_status_page_shows_everything_and_is_html_whatever_the_names_are() -> None:
    status = a_status(
        a_process(
            name="worker 1", consumers=(a_registered(consumer="<b>charge</b>", state="interrupted", reason="&"),)
        ),
        consumers=(consumed("<script>", delivered=7, in_hand=7),),
    )
    answer = ask("/", status)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for shown in ("Not ready", "Worker 1: ready", "&lt;script&gt;", "&lt;b&gt;charge&lt;/b&gt;", "<td>&amp;</td>"):
        assert shown in answer.body
    assert "<script" not in answer.body and "://" not in answer.body


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nowhere"])
def test_every_answer_ends_its_connection_is_kept_by_nobody_and_given_to_no_other_site(path: str) -> None:
    headers = ask(path).headers
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nowhere", "GET", 404), ("/readyz", "POST", 405), ("/readyz", "HEAD", 200)]
)
def test_what_is_not_there_is_not_answered(path: str, method: str, status: int) -> None:
    assert ask(path, method=method).status == status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9419",
        "127.0.0.1",
        "10.0.0.7:9419",
        "[::1]:9419",
        "[::1]",
        "metrics.example.org:80",
        "localhost.",
    ],
)
def test_addresses_localhost_and_the_names_of_the_file_are_answered(host: str) -> None:
    assert ask("/readyz", None, host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9419", "127.0.0.1.evil.example", "", ":9419", "localhost.evil", "[evil]", "metrics"],
)
def test_any_other_name_is_refused(host: str) -> None:
    answer = ask("/metrics", None, host)
    assert answer[::2] == (403, "this host name is not served here; see `runtime.http.hosts`\n")


def test_one_good_name_does_not_help_another_one() -> None:
    assert ask("/", None, "localhost", "evil.example").status == 403


def test_an_error_of_ours_is_told_to_nobody_but_the_log() -> None:
    def broken() -> Status:
        raise RuntimeError("secret")

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/readyz", "query_string": b"", "headers": []}
    with pytest.raises(RuntimeError):
        asyncio.run(pages(broken, hosts=())(scope, receive, send))
    assert (sent[0]["status"], sent[1]["body"]) == (500, b"Internal Server Error")
