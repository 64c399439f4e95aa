"""examples/grpc_sums: a unary call and streams both ways, by HTTP/2 through the tunnel."""
import os
import re

import pytest

from appkit.example import ROOT

WAITING = """
import queue, sys, grpc
messages, services = grpc.protos_and_services("sums.proto")
with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    numbers = queue.SimpleQueue()
    answers = services.SumsStub(channel).Running(iter(numbers.get, None))
    numbers.put(messages.Number(value=42))
    print(next(answers).value, flush=True)
    try:
        print(next(answers))
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.fixture
def server(example):
    """The running server: the command that it prints, and the tunnel's host and port in it."""
    running = example("grpc_sums/server.py")
    running.command, running.host, running.port = running.printed(
        r"^(python examples/grpc_sums/client.py (\S+):(\d+))$"
    ).groups()
    return running


def test_thousands_of_messages_go_both_ways(server, elsewhere):
    done = elsewhere(f"cd {ROOT} && {server.command}", server.host, seconds=100)
    assert done.returncode == 0, done
    assert re.fullmatch(
        r"1 \+ 2 \+ 3 = 6\n10000 of 10000 sums are right, \S+ s\n1000 questions and answers in turn, \S+ s\n",
        done.stdout,
    ), done


def test_the_client_refuses_a_relay_that_it_does_not_trust(server, elsewhere):
    done = elsewhere(f"cd {ROOT} && unset GRPC_DEFAULT_SSL_ROOTS_FILE_PATH && {server.command}", server.host)
    assert done.returncode != 0 and "CERTIFICATE_VERIFY_FAILED" in done.stderr, done


def test_the_end_of_the_server_ends_a_stream_that_waits(server, elsewhere, box):
    folder = os.path.join(ROOT, "examples", "grpc_sums")
    client = elsewhere.start(
        f"cd {folder} && PYTHONPATH=. python {box.file('waiting.py', WAITING)} {server.host}:{server.port}", server.host
    )
    client.out.wait(lambda line: line == "42")
    server.end()
    client.wait()
    # A tunnel that is closed tears its streams by a TLS alert, which gRPC calls UNKNOWN.
    assert client.out.lines[-1] in ("UNAVAILABLE", "UNKNOWN"), client.report()
