"""examples/grpc_sums: a unary call and streams both ways, by HTTP/2 through the tunnel."""
import re

from appkit.example import ROOT


def test_thousands_of_messages_go_both_ways(example, elsewhere):
    printed = example("grpc_sums/server.py").printed(r"^python examples/grpc_sums/client.py (\S+):\d+$")
    done = elsewhere(f"cd {ROOT} && {printed.group(0)}", printed.group(1), seconds=100)
    assert done.returncode == 0, done
    assert re.fullmatch(r"1 \+ 2 \+ 3 = 6\n10000 of 10000 sums are right, \S+ s\n1000 questions and answers in turn, \S+ s\n", done.stdout), done


def test_the_client_refuses_a_relay_that_it_does_not_trust(example, elsewhere):
    printed = example("grpc_sums/server.py").printed(r"^python examples/grpc_sums/client.py (\S+):\d+$")
    done = elsewhere(f"cd {ROOT} && unset GRPC_DEFAULT_SSL_ROOTS_FILE_PATH && {printed.group(0)}", printed.group(1))
    assert done.returncode != 0 and "CERTIFICATE_VERIFY_FAILED" in done.stderr, done
