"""Web traffic by curl through a tunnel, as a browser or an API client would send it."""
import threading

import pytest

from kit import data, http
from kit.app import read_exactly
from kit.process import DEADLINE_S

pytestmark = pytest.mark.both_pumps


def test_curl_fetches_a_page(relay, agent, app, visitor):
    def serve(connection):
        while request := http.read_request(connection):
            http.answer(connection, "200 OK", f"you asked for {request.path}".encode())
    tunnel = agent(app(serve))
    done = visitor.curl(tunnel)("--http1.1", path="/page")
    assert (done.returncode, done.stdout) == (0, b"you asked for /page"), done.stderr


def test_two_requests_use_one_connection(relay, agent, app, visitor):
    a = app(http.serve_bodies)
    tunnel = agent(a)
    done = visitor.curl(tunnel)("--verbose", tunnel.url + "/10", path="/20")
    assert (done.returncode, len(done.stdout)) == (0, 30), done.stderr
    assert b"Re-using existing connection" in done.stderr and len(a.connections) == 1


def test_a_large_download_arrives_unchanged(relay, agent, app, visitor):
    tunnel = agent(app(http.serve_bodies))
    assert visitor.curl(tunnel).download(f"/{http.LARGE}") == (http.LARGE, data.digest(http.LARGE))


def test_a_large_upload_arrives_unchanged(relay, agent, app, visitor, box):
    tunnel = agent(app(http.serve_bodies))
    content = visitor.curl(tunnel).upload(http.LARGE, "-H", "Expect:")
    assert content == f"{http.LARGE} {data.digest(http.LARGE)}".encode()


def test_a_sized_upload_arrives_unchanged(relay, agent, app, visitor, box):
    body, tunnel = data.body(3_000_001), agent(app(http.serve_bodies))
    done = visitor.curl(tunnel)("--data-binary", "@" + box.file("body", body))
    assert done.stdout == f"{len(body)} {data.digest(len(body))}".encode(), done.stderr


def test_expect_100_continue_is_answered_by_the_app_before_the_body(relay, agent, app, visitor, box):
    seen = []

    def serve(connection):
        request = http.read_request(connection)
        seen.append((request.headers["expect"], request.rest))
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        total, digest = data.digest_stream(request.reader(connection))
        http.answer(connection, "200 OK", f"{total} {digest}".encode())
    tunnel = agent(app(serve))
    body = data.body(2 << 20)
    done = visitor.curl(tunnel)("-H", "Expect: 100-continue", "--expect100-timeout", "600", "--data-binary",
                                "@" + box.file("body", body))
    assert done.stdout == f"{len(body)} {data.digest(len(body))}".encode(), done.stderr
    assert seen == [("100-continue", b"")], "nothing of the body came before the app asked for it"


def test_a_chunked_upload_arrives_unchanged(relay, agent, app, visitor, box):
    seen = []

    def serve(connection):
        request = http.read_request(connection)
        seen.append(request.headers["transfer-encoding"])
        total, digest = data.digest_stream(request.reader(connection))
        http.answer(connection, "200 OK", f"{total} {digest}".encode())
    tunnel = agent(app(serve))
    total = 5_000_003
    content = visitor.curl(tunnel).upload(total, "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-X", "POST")
    assert content == f"{total} {data.digest(total)}".encode() and seen == ["chunked"]


def test_a_chunked_download_arrives_as_it_is_made(relay, agent, app, visitor):
    a = app()
    tunnel = agent(a)
    v = visitor(tunnel)
    v.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection = a.accept()
    http.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert read_exactly(v, 47) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for i in range(20):             # each chunk is there before the next is written: nothing waits for more
        chunk = b"%x\r\n%s\r\n" % (i + 1, b"x" * (i + 1))
        connection.sendall(chunk)
        assert read_exactly(v, len(chunk)) == chunk


def test_a_413_in_the_middle_of_an_upload_reaches_the_visitor(relay, agent, app, visitor, box):
    """The app answers and closes with unread input, so its kernel resets: the answer comes through first."""
    def serve(connection):
        request = http.read_request(connection)
        read_exactly(connection, 65536 - len(request.rest))
        http.answer(connection, "413 Content Too Large", b"too much", ["Connection: close"])
    tunnel = agent(app(serve))
    body = box.file("body", data.body(64 << 20))
    done = visitor.curl(tunnel)("--http1.1", "-H", "Expect:", "--include", "--data-binary", "@" + body)
    assert b"413 Content Too Large" in done.stdout and done.stdout.endswith(b"too much"), (done.returncode, done.stdout,
                                                                                           done.stderr)


def test_the_app_receives_exactly_what_the_visitor_sent(relay, agent, app, visitor):
    """No header is added, changed or re-ordered; what is no HTTP passes, too."""
    a = app()
    tunnel = agent(a)
    request = b"GeT /%00?q=\xff HTTP/1.1\r\nhOST:  Odd\r\nX-A: 1\r\nx-a: 2\r\n folded\r\n\r\n" + bytes(range(256)) * 40
    v = visitor(tunnel)
    v.sendall(request)
    v.half_close()
    connection, got = a.accept(), b""
    while piece := connection.recv(65536):
        got += piece
    assert got == request


def test_many_visitors_at_once_get_their_own_answers(relay, agent, app, visitor):
    a = app(http.serve_bodies)
    tunnel = agent(a)
    sizes, results = [200_000 + i for i in range(40)], {}

    def fetch(n):
        results[n] = visitor.curl(tunnel)(path=f"/{n}").stdout == data.body(n)
    threads = [threading.Thread(target=fetch, args=(n,)) for n in sizes]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S * 10)
    assert results == {n: True for n in sizes}
