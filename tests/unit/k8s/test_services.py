"""What arrives at the caller of a method that refuses: code and message, whatever the message holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from ossmount.k8s import schema
from ossmount.k8s.refusal import Code, Refusal
from ossmount.k8s.services import Node, generic_handler
from ossmount.k8s.volumes import Report


@pytest.fixture
def answer_to() -> Iterator[Callable[[str], Any]]:
    """``answer_to(message)`` is how a call ends that is refused so."""
    message = ""

    def refuse(_: Any) -> None:
        raise Refusal(Code.NOT_FOUND, message)

    server = grpc.server(ThreadPoolExecutor(1))
    methods = dict.fromkeys(schema.METHODS[schema.NODE], refuse)
    server.add_generic_rpc_handlers((generic_handler(schema.NODE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def ask(text: str) -> Any:
            nonlocal message
            message = text
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{schema.NODE}/NodeGetInfo")(b"", timeout=20)
            return refused.value

        yield ask
    server.stop(None).wait()


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600", "\n", "\udcff"])
def test_a_message_arrives_on_one_line_however_long_it_is(
    answer_to: Callable[[str], Any], caplog: pytest.LogCaptureFixture, letter: str
) -> None:
    error = answer_to("there is no object " + letter * 50_000)
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details().startswith("there is no object ")
    assert error.details().isprintable()
    assert caplog.messages == [f"NodeGetInfo: NOT_FOUND: {error.details()}"]


def test_whatever_a_sidecar_tells_of_its_volume_is_passed_on() -> None:
    report = Report(None, abnormal=True, message="the sidecar failed: \udcff\n")
    volumes = SimpleNamespace(report=lambda *_: report)
    ask = Node(cast("Any", volumes), "node").methods()["NodeGetVolumeStats"]
    condition = ask(
        schema.message("NodeGetVolumeStatsRequest")(volume_id="v", volume_path="/v")
    ).volume_condition
    assert (condition.abnormal, condition.message) == (True, "the sidecar failed: \\udcff\\n")


def test_a_short_message_arrives_as_it_is(answer_to: Callable[[str], Any]) -> None:
    text = "unknown volume attribute 'layuot'; did you mean 'layout'?"
    assert answer_to(text).details() == text
