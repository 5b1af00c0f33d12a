"""A line into a running Erlang node: expressions go in as text, their values come back as text.
One small Erlang process is kept for it, because each call of `rabbitmqctl` starts a new one and costs a second.
What the expressions mean is for those who send them."""

import base64
import subprocess
import threading
from collections.abc import Mapping, Sequence

# Reads expressions line by line, lets the other node evaluate them, and ends with its input.
PROGRAM = r"""
Node = list_to_atom(os:getenv("PIPERUN_TEST_NODE")),
Evaluate = fun(Line) ->
    try
        {ok, Tokens, _} = erl_scan:string(Line),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        case rpc:call(Node, erl_eval, exprs, [Expressions, []], 120000) of
            {value, Value, _} when is_binary(Value) -> {ok, Value};
            {value, Value, _} -> {ok, unicode:characters_to_binary(io_lib:format("~0tp", [Value]))};
            Failure -> {error, unicode:characters_to_binary(io_lib:format("~0tp", [Failure]))}
        end
    catch
        Class:Reason -> {error, unicode:characters_to_binary(io_lib:format("~0tp", [{Class, Reason}]))}
    end
end,
Loop = fun Again() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            {Word, Text} = Evaluate(Line),
            io:format("~s ~s~n", [Word, base64:encode(Text)]),
            Again();
        _ -> halt(0)
    end
end,
Loop().
"""


class ErlangError(Exception):
    """The node did not answer, or what it was asked to do failed there."""


class ErlangShell:
    """Evaluates expressions on one node. Safe to use from several threads; `close` may be called twice."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], node: str, process_group: int) -> None:
        self._lock = threading.Lock()
        name = node.replace("@", "-control@")
        alone = ["+S", "1:1", "-hidden", "-start_epmd", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        program = ["-noshell", "-sname", name, "-eval", " ".join(PROGRAM.split())]
        self._process = subprocess.Popen(
            [*command, *alone, *program],
            env={**env, "PIPERUN_TEST_NODE": node},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=process_group,
        )

    def eval(self, expression: str) -> str:
        """The value of `expression` on the node: a binary as its text, anything else as Erlang prints it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with self._lock:
            stdin.write(expression.replace("\n", " ") + ".\n")
            stdin.flush()
            line = stdout.readline()
        word, _, text = line.strip().partition(" ")
        if word not in ("ok", "error"):
            raise ErlangError(f"the control process said {line!r}{stdout.read() if not line else ''}")
        answer = base64.b64decode(text).decode()
        if word == "error":
            raise ErlangError(answer)
        return answer

    def close(self) -> None:
        """End the process by ending its input."""
        if self._process.poll() is None:
            self._process.communicate(timeout=10)


def binary(text: str) -> str:
    """`text` as an Erlang binary."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}"/utf8>>'
