"""The app, and the ways to it that every benchmark has: nginx, and a relay with an agent."""
import contextlib
import os
import socket
import subprocess
import time

from box import ADIT, LOAD, READY_S, Failed, found
from subject import Subject

NGINX_MODULE = "usr/lib/nginx/modules/ngx_stream_module.so"
NAME, DOMAIN = "direct.bench.test", "relay.bench.test"

NGINX_CONF = """
{user} {module}
worker_processes auto;
worker_rlimit_nofile {files};
daemon off;
pid {stem}.pid;
error_log {stem}.log warn;
events {{ worker_connections {connections}; }}
stream {{
  server {{
    listen {host}:{port} ssl reuseport;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    proxy_pass {to};
  }}
}}
"""


def start_app(box, name, *options, prefix=(), host="127.0.0.1"):
    process = box.start(name, [*prefix, LOAD, "app", "--host", host, "--streams", "2", *options],
                        stdout=subprocess.PIPE)
    return box.first_line(process, name)["port"], process


def free_port(host="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait_listening(box, name, process, address, connect=socket.create_connection):
    """connect makes the connection, elsewhere perhaps."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), connect(address, 1):
            return
        time.sleep(0.02)
    raise Failed(f"{name} does not start: {box.log(name)}")


def why_no_nginx():
    if found("usr/sbin/nginx") is None:
        return "nginx is not here (tools/deps bench unpacks it)"
    return None


def start_nginx(box, name, to, cert, key, *, host="127.0.0.1", port=None, connections=1024, prefix=(),
                connect=socket.create_connection):
    """Terminates TLS before the address `to`; returns the port and the process."""
    module, port = found(NGINX_MODULE), port or free_port()
    conf = box.file(f"{name}.conf", NGINX_CONF.format(
        user="user root;" if os.getuid() == 0 else "", host=host, port=port, to=to, cert=cert, key=key,
        module=f"load_module {module};" if module else "", stem=box.file(name), connections=connections,
        files=connections + 64))
    process = box.start(name, [*prefix, found("usr/sbin/nginx"), "-p", box.path, "-c", conf],
                        stdout=subprocess.DEVNULL)
    try:
        wait_listening(box, name, process, (host, port), connect)
    except Failed as failure:
        raise Failed(f"{failure} (with its stream module: package libnginx-mod-stream)") from None
    return port, process


class Relay:
    def __init__(self, box, name, *options, host="127.0.0.1", prefix=(), token=()):
        self.state, path = box.file(f"{name}-state"), box.file(f"{name}-notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(READY_S)
            self.process = box.start(name, [*prefix, ADIT, "relay", "--domain", DOMAIN, "--listen", f"{host}:0",
                                            "--tcp-listen", host, "--state", self.state, *options],
                                     env={"NOTIFY_SOCKET": path})
            try:
                notes = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines() if "=" in line)
            except TimeoutError:
                raise Failed(f"{name} does not become ready: {box.log(name)}") from None
        self.host, self.port = host, int(notes["X_ADIT_PORT"])
        self.ca = os.path.join(self.state, "authority.pem")
        self.token = box.run(ADIT, "token", "create", "bench", "--state", self.state, "--relay",
                             f"{host}:{self.port}", *token)


def start_agent(box, name, relay, *argv, prefix=()):
    """The running agent, and its first line."""
    agent = box.start(name, [*prefix, *argv], env={"ADIT_TOKEN": relay.token}, stdout=subprocess.PIPE)
    return agent, box.first_line(agent, name)


def host_of(url):
    return url.split("://", 1)[1].split(":")[0].strip("/")


def start_tunnel(box, app, pump, title, *agent):
    relay = Relay(box, f"relay-{title}", "--pump", pump)
    agent, line = start_agent(box, f"agent-{title}", relay, *agent, str(app))
    return Subject(f"tunnel, {title}", (relay.host, relay.port), host_of(line["url"]), relay.ca,
                   {"front": [relay.process.pid], "agent": [agent.pid]}), relay
