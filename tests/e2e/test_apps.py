"""Where an app may be: a port of this machine, on either loopback address; another host by its name; a Unix socket. And
when: later than its first visitors."""
import os
import socket
import ssl
import subprocess
import threading

import pytest

from kit import data, hello, http
from kit.app import echo, ipv6_alone, read_exactly, read_until_end, reset
from kit.nginx import found
from kit.process import ADIT, DEADLINE_S, scaled, wait_until
from kit.tls import how_a_visit_ends, how_it_ends

VERSIONS = {"tls1.3": ssl.TLSVersion.TLSv1_3, "tls1.2": ssl.TLSVersion.TLSv1_2}
WAITING_MAX = 16 if os.environ.get("ADIT_SMALL") else 256     # src/base/limits.h
MINUTES = "5m"                             # none of these tests takes so long


def says(stream, text):
    stream.sendall(text)
    return read_exactly(stream, len(text)) == text


# --- both loopback addresses ---


@pytest.mark.parametrize("host", ["", "localhost:"])
def test_an_app_on_the_ipv6_loopback_alone_is_found(relay, agent, app, visitor, box, host):
    """Where 127.0.0.1 refuses, ::1 is tried."""
    v6 = ipv6_alone(box, lambda: app(echo, host="::1"))
    assert says(visitor(agent(f"{host}{v6.port}")), b"six")


def test_an_app_on_an_ipv6_address_alone(relay, agent, app, visitor):
    v6 = app(echo, host="::1")
    assert says(visitor(agent(f"[::1]:{v6.port}")), b"six")


# --- names of other hosts ---


def hosts(names):
    """The prefix of a program that takes this file for /etc/hosts."""
    return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"',
            names]


def test_a_name_that_leads_elsewhere_by_now_is_looked_up_again(relay, agent, app, visitor, box):
    """As that of a container that was made anew: no visitor is lost, not even the first. It may have an underscore."""
    names, old = box.file("hosts", "127.0.0.5 moving_app\n", mode=0o644), app(echo, host="127.0.0.5")
    tunnel = agent(f"moving_app:{old.port}", prefix=hosts(names))
    assert says(visitor(tunnel), b"here")
    old.close()
    box.file("hosts", "127.0.0.6 moving_app\n")
    app(echo, host="127.0.0.6", port=old.port)
    assert says(visitor(tunnel), b"there")
    assert not tunnel.events.seen("warning")


def test_all_who_wait_for_an_app_at_a_name_reach_it_once_it_is_there(relay, agent, app, visitor, box):
    """One of them looks the name up, and the app answers it at once."""
    a = app(echo, host="127.0.0.5", started=False)
    names = box.file("hosts", "127.0.0.5 waited_for\n", mode=0o644)
    tunnel = agent(f"waited_for:{a.port}", "--unencrypted", "--app-wait", MINUTES, prefix=hosts(names))
    waiting = [visitor.raw(tunnel) for _ in range(4)]
    wait_until(lambda: relay.metric("streams_now") == len(waiting), "a visitor has no stream")
    tunnel.events.wait("warning")
    a.start()
    assert all(says(v, b"at last") for v in waiting)
    assert says(visitor.raw(tunnel), b"later")


# --- Unix sockets ---


@pytest.mark.both_pumps
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_unix_socket_carries_bodies_both_ways(relay, agent, app, visitor, box, version):
    a, total = app(http.serve_bodies, host=f"unix:{box.file('app.sock')}"), scaled(64 << 20, 1 << 20)
    curl = visitor.curl(agent(a))
    curl.prefix += ["--tls-max", version]
    assert curl.download(f"/{total}") == (total, data.digest(total))
    assert curl.upload(total, "-H", "Expect:") == f"{total} {data.digest(total)}".encode()


@pytest.mark.parametrize("link", ["sealed", "plain"])
@pytest.mark.relay_options("--link", "plain")
def test_a_unix_socket_carries_raw_streams_and_their_half_close(relay, agent, app, visitor, box, link):
    a = app(echo, host=f"unix:{box.file('app.sock')}")
    tunnel = agent(a, "--unencrypted", "--link", link)
    assert (tunnel.tunnel.event["app"], tunnel.tunnel.port, tunnel.tunnel.event["name"]) == (a.port, None, None)
    v, sent = visitor.raw(tunnel), os.urandom(scaled(8 << 20, 1 << 20))
    sender = threading.Thread(target=lambda: (v.sendall(sent), v.shutdown(socket.SHUT_WR)), daemon=True)
    sender.start()
    assert read_until_end(v) == sent
    sender.join()


def test_nginx_on_a_unix_socket(relay, agent, box, visitor):
    path = box.file("nginx.sock")
    conf = box.file(
        "nginx.conf",
        f"""{"user root;" if os.getuid() == 0 else ""} daemon off; pid {box.file("pid")};
error_log stderr info; events {{}}
http {{ access_log off; client_body_temp_path {box.file("body")}; proxy_temp_path {box.file("proxy")};
  fastcgi_temp_path {box.file("fcgi")};
  uwsgi_temp_path {box.file("uwsgi")}; scgi_temp_path {box.file("scgi")}; client_max_body_size 1k;
  server {{ listen unix:{path}; location / {{ return 200 "of $host"; }}
           location /upload {{ root {box.path}; }} }} }}""",
    )
    box.closers.append(box.start([found("usr/sbin/nginx"), "-p", box.path, "-c", conf]).stop)
    tunnel = agent(f"unix:{path}", "--app-wait", MINUTES)
    done = visitor.curl(tunnel)("--http1.1")
    assert (done.returncode, done.stdout.decode()) == (0, f"of {tunnel.host}"), done.stderr
    upload = visitor.curl(tunnel)("--http1.1", "-H", "Expect:", "--data-binary",
                                  f"@{box.file('large', bytes(4 << 20))}", path="/upload")
    assert b"413 Request Entity Too Large" in upload.stdout, (
        "its answer comes through, although it has closed with unread input"
    )


def test_an_abstract_unix_socket(relay, agent, app, visitor):
    a = app(echo, host=f"unix:@adit-test-{os.getpid()}")
    assert says(visitor(agent(a)), b"nowhere in the file system")


def test_a_unix_socket_whose_app_accepts_slowly_makes_visitors_wait(relay, agent, app, visitor, box):
    """connect(2) says EAGAIN there, where TCP would just take longer."""
    a = app(host=f"unix:{box.file('app.sock')}", backlog=0)
    tunnel = agent(a)
    visitors = [visitor(tunnel) for _ in range(8)]
    for v in visitors:
        v.sendall(b"x")
    for _ in visitors:
        connection = a.accept()
        connection.sendall(read_exactly(connection, 1))
    assert [read_exactly(v, 1) for v in visitors] == [b"x"] * 8
    assert not tunnel.events.seen("warning")


def test_a_unix_socket_that_is_made_later_is_waited_for(relay, agent, app, visitor, box):
    a = app(echo, host=f"unix:{box.file('app.sock')}", started=False)
    tunnel = agent(a, "--app-wait", MINUTES)
    v = visitor(tunnel)
    text = tunnel.events.wait("warning")["text"]
    assert text == f"app {a.port}: it is not there yet, a visitor waits for it (start it, or check the path)"
    a.start()
    assert says(v, b"early")


def test_a_path_of_what_is_no_socket_is_told(relay, agent, box, visitor):
    tunnel = agent(f"unix:{box.file('regular', b'x')}", "--app-wait", "0")
    assert how_a_visit_ends(visitor, tunnel) == "reset"
    assert tunnel.events.wait("warning")["text"].endswith("it refused the connection (start it, or check the path)")


def test_a_relative_path_is_of_the_folder_where_it_was_given(relay, box, app):
    app(echo, host=f"unix:{box.file('app.sock')}")
    program = box.start([ADIT, "forward", "--json", "unix:./app.sock", "--", "sh", "-c", "env; read wait"],
                        cwd=box.path, stdin=subprocess.PIPE,
                        env={"ADIT_TOKEN": relay.token()})
    program.out.wait(lambda line: line.startswith("ADIT_URL="))
    program.popen.stdin.close()
    program.out.wait_end()
    assert not [line for line in program.out.lines
                if line.startswith("ADIT_URL_")], "it has no port by which it could be known"


def test_two_apps_on_unix_sockets_keep_their_addresses_apart(relay, agent, app, box):
    apps = [app(echo, host=f"unix:{box.file(name)}") for name in ("one.sock", "two.sock")]
    keep = box.file("ticket")
    before = agent(apps, "--keep", keep)
    addresses = [t.host for t in before.tunnels]
    before.process.stop()
    assert [t.host for t in agent(apps, "--keep", keep).tunnels] == addresses and len(set(addresses)) == 2
    assert {f for f in os.listdir(box.path) if f.startswith("ticket.")} >= {"ticket.one.sock", "ticket.two.sock"}


# --- names ---


def test_apps_are_called_by_their_names(relay, agent, app, box, visitor):
    a, b = app(echo), app(started=False)
    tunnel = agent([a, b], "--name", "shop", "--name", "the lädt one", "--app-wait", "0")
    assert [t.event["name"] for t in tunnel.tunnels] == ["shop", "the lädt one"]
    assert [t.event["app"] for t in tunnel.tunnels] == [f"localhost:{a.port}", f"localhost:{b.port}"]
    assert how_a_visit_ends(visitor, tunnel.tunnels[1]) == "reset"
    told = tunnel.events.wait("warning")
    assert told["name"] == "the lädt one" and told["text"].startswith(
        f"app the lädt one at 127.0.0.1:{b.port} or [::1]:{b.port}: it refused"
    )


def test_a_name_for_each_app_or_none(box):
    done = box.adit("forward", "8000", "8001", "--name", "shop", env={"ADIT_EMBEDDED": "0"})
    assert (done.returncode, done.stderr) == (2, "adit: --name: 1 for 2 apps (give one for each, in their order)\n")
    done = box.adit("forward", "8000", "--name", "a\nb", env={"ADIT_EMBEDDED": "1"})
    assert (done.returncode, done.stderr) == (2, "adit: name: it has control characters (leave them out)\n")


# --- who is not let in ---


@pytest.mark.both_pumps
def test_who_is_denied_is_not_let_in(relay, agent, app, visitor):
    """To them the tunnel does not exist, also where they are allowed."""
    a = app(echo)
    tunnel = agent(a, "--unencrypted", "--allow", "127.0.0.0/8", "--deny", "127.0.0.1", "--deny", "10.0.0.0/8")
    assert says(visitor(tunnel, source="127.0.0.2"), b"let in")
    answer = hello.answer_to(relay.address, hello.records(hello.client_hello(tunnel.host)))
    assert hello.alert_in(answer) == hello.fatal(hello.UNRECOGNIZED_NAME)
    assert answer == hello.answer_to(relay.address, hello.records(hello.client_hello("a" * 24 + ".r1.test")))
    assert how_a_visit_ends(visitor.raw, tunnel) in ("reset", "clean")
    assert len(a.connections) == 1


# --- an app that is late ---


KINDS = ["tls1.3", "tls1.2", "raw"]


@pytest.fixture
def visit(visitor):
    return lambda tunnel, kind: visitor.raw(tunnel) if kind == "raw" else visitor(tunnel, version=VERSIONS[kind])


def test_a_visitor_waits_as_long_as_it_was_said(relay, agent, app, visit):
    """The same app, not there yet, behind two tunnels: one waits as long as ever, and when that is over the app starts
    for the other."""
    a = app(echo, started=False)
    patient, other = agent(a, "--unencrypted", "--app-wait", MINUTES), agent(a, "--unencrypted")
    early, gone = ([visit(tunnel, kind) for kind in KINDS] for tunnel in (patient, other))
    for v in early:
        v.sendall(b"early")
    assert [how_it_ends(v) for v in gone] == ["reset"] * len(KINDS)
    a.start()
    assert [read_exactly(v, 5) for v in early] == [b"early"] * len(KINDS)
    assert all(says(visit(other, kind), b"late") for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_that_is_not_to_be_waited_for_is_not(relay, agent, app, visit, kind):
    tunnel = agent(app(started=False), "--unencrypted", "--app-wait", "0")
    assert how_a_visit_ends(visit, tunnel, kind) == "reset"
    assert "it refused the connection" in tunnel.events.wait("warning")["text"], (
        "and nobody was told that it is waited for"
    )


def test_curl_shows_an_app_that_is_not_there_as_a_reset(relay, agent, app, visitor):
    # at once would be before curl looks
    done = visitor.curl(agent(app(started=False), "--app-wait", "1s"))("--http1.1")
    assert done.returncode in (35, 52,
                               56) and b"reset by peer" in done.stderr and b"alert" not in done.stderr, done.stderr


def test_a_name_that_cannot_be_looked_up_yet_is_waited_for_and_given_up(relay, agent, visitor):
    """As that of a container which is being started."""
    tunnel = agent("nowhere.invalid:80", "--app-wait", "1s")
    assert tunnel.events.wait("warning")["text"].startswith("app nowhere.invalid:80: ")
    assert how_a_visit_ends(visitor, tunnel) == "reset"
    assert tunnel.events.wait("warning")["text"].startswith(
        "app nowhere.invalid:80: it is not there yet, a visitor waits for it: "
    )


def test_so_many_visitors_may_wait_and_no_more(relay, agent, app, visitor):
    a = app(echo, started=False)
    tunnel, waiting = agent(a, "--unencrypted", "--app-wait", MINUTES), []
    while len(waiting) < WAITING_MAX:
        waiting.append(visitor.raw(tunnel))
        wait_until(lambda: relay.metric("streams_now") == len(waiting), "a visitor has no stream")
    assert how_a_visit_ends(visitor.raw, tunnel) == "reset"
    assert "it is not there yet" in tunnel.events.wait("warning")["text"]
    assert "so many visitors wait for it already that another was refused" in tunnel.events.wait("warning")["text"]
    reset(waiting.pop())
    wait_until(lambda: relay.metric("streams_now") == len(waiting), "the visitor is still there")
    waiting.append(visitor.raw(tunnel))
    a.start()
    assert all(says(v, b"at last") for v in waiting)


def test_closing_ends_those_who_wait(relay, agent, app, visitor):
    tunnel = agent(app(started=False), "--unencrypted", "--app-wait", MINUTES)
    v = visitor.raw(tunnel)
    tunnel.events.wait("warning")
    assert tunnel.process.stop(DEADLINE_S) == 0
    assert how_it_ends(v) == "reset"


def test_a_wait_has_a_limit(box):
    done = box.adit("forward", "8000", "--app-wait", "11m")
    assert (done.returncode, done.stderr) == (2, "adit: --app-wait 11m: out of range (it may be from 0s to 600s)\n")
