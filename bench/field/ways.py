"""The ways to an app, each in the fastest configuration that its documentation has. A way has a server and agents; what
it makes public is `count` ports of plain TCP, or names of a TLS port. One without TLS for visitors has nginx before it
where TLS is wanted.

`config` says in one line how it is set up: what a reader of the figures needs."""
import os
import subprocess
import time

from box import ADIT, LOAD, READY_S, Failed
from subject import Subject
from tunnel import NAME, Relay, host_of, start_app, start_nginx, wait_listening

from . import programs

TUNNELS = os.path.join(os.path.dirname(LOAD), "tunnels")
FILES = 19000                          # descriptors, where a program wants to know


class Field:
    """What all ways share: the run's folder, where things stand, the certificate, and the app."""

    def __init__(self, box, sites, certificate, progress):
        self.box, self.sites, self.progress = box, sites, progress
        self.ca, self.cert, self.key = certificate
        self.app, self.app_process = start_app(box, box.unique("app"), prefix=sites.agent.prefix, host=sites.app_host)

    def start(self, name, argv, site, **options):
        path = argv[0]
        env = {**programs.environment(path), **options.pop("env", {})}
        return self.box.start(name, [*site.prefix, *argv], env=env, stdout=options.pop("stdout", subprocess.DEVNULL),
                              **options)


class Way:
    name, kinds, needs, config = "", ("tls", "raw"), (), ""
    fronted = True                     # behind nginx for TLS
    many_tunnels = True                # one agent can have many
    agents_most = 1000                 # how many are worth their time
    visitors_most = 100000
    visitors_of_files = 0.47           # for a descriptor: a tunnel's processes have two for each visitor
    tunnel = True

    def __init__(self, field, kind, count=1):
        self.field, self.kind, self.count, self.sites, self.box = field, kind, count, field.sites, field.box
        self.paths = {name: programs.need(name, field.progress) for name in self.needs}
        self.stem = self.box.unique(self.name)
        self.host = self.sites.relay.host(self.box.used)
        self.roles, self.agents, self.running, self.lines = {}, [], [], {}

    def start(self, fresh=False):
        """Everything, until a visitor can come; the subject that it is then. A fresh one shares no app that is part of
        what is measured."""
        self.start_server()
        self.start_agent(0, 1)
        self.wait_through(0)
        return self.subject()

    def subject(self):
        subject = Subject(self.name, *self.public(0), {**self.roles, "app": [self.field.app_process.pid]})
        subject.way = self
        return subject

    def public(self, i):
        """Address, name and authority of the i-th app."""
        if self.kind == "raw":
            return (self.host, self.ports[i]), None, None
        return (self.host, self.front_port), NAME, self.field.ca

    def keep(self, role, process):
        self.running.append(process)
        self.roles.setdefault(role, []).append(process.pid)

    def nginx(self, to):
        """Before that address, which need not be there yet."""
        relay = self.sites.relay
        self.front_port, process = start_nginx(
            self.box, f"{self.stem}-nginx", to, self.field.cert, self.field.key, host=self.host,
            port=relay.free_ports(self.host)[0], connections=FILES // 2, prefix=relay.prefix, connect=relay.connect)
        self.keep("nginx", process)

    def start_server(self):
        self.ports = self.sites.relay.free_ports(self.host, self.count)
        self.server()
        if self.kind == "tls" and self.fronted:
            self.nginx(f"{self.host}:{self.ports[0]}")

    def serve(self, argv, port, role="server", **options):
        name = f"{self.stem}-server"
        process = self.field.start(name, argv, self.sites.relay, **options)
        self.keep(role, process)
        wait_listening(self.box, name, process, (self.host, port), self.sites.relay.connect)

    def agent_argv(self, first, count):
        """What starts an agent for so many of the apps; the configuration it names is written."""
        raise NotImplementedError

    def agent_env(self):
        return {}

    def start_agent(self, first, count):
        name = f"{self.stem}-agent{first}"
        process = self.field.start(name, self.agent_argv(first, count), self.sites.agent, env=self.agent_env())
        self.agents.append((name, process))
        self.keep("agent", process)

    def start_many(self):
        """One agent with all the tunnels."""
        self.start_agent(0, self.count)

    def know_address(self):
        """What visitors are to dial is known before an agent is there."""

    def wait_through(self, i):
        """Until the i-th app answers a visitor at its plain port."""
        deadline, address = time.monotonic() + READY_S * (1 + self.count / 100), (self.host, self.ports[i])
        while time.monotonic() < deadline:
            try:
                with self.sites.relay.connect(address, 1) as visitor:
                    visitor.sendall(b"B\n")
                    if visitor.recv(1) == b"!":
                        return
            except OSError:
                pass
            if all(process.poll() is not None for _, process in self.agents):
                break
            time.sleep(0.02)
        raise Failed(f"{self.name}: no visitor gets through: {self.box.log(self.agents[0][0])[-300:]}")

    def stop(self):
        for process in reversed(self.running):
            self.box.stop(process)
        self.roles, self.agents, self.running = {}, [], []

    def app_address(self):
        return f"{self.sites.app_host}:{self.field.app}"


class Direct(Way):
    tunnel = False
    name, config = "direct", "the app itself, which terminates TLS where that is wanted: OpenSSL, two threads"

    def start(self, fresh=False):
        host, app, process = self.sites.app_host, self.field.app, self.field.app_process
        tls = self.kind == "tls"
        if tls or fresh:
            certificate = ["--cert", self.field.cert, "--key", self.field.key] if tls else []
            app, process = start_app(self.box, self.stem, *certificate, prefix=self.sites.agent.prefix, host=host)
            self.running.append(process)
        subject = Subject(self.name, (host, app), NAME if tls else None, self.field.ca if tls else None,
                          {"app": [process.pid]})
        subject.way = self
        return subject


class Proxy(Way):
    kinds, fronted, tunnel = ("tls",), False, False

    def start(self, fresh=False):
        self.server()
        return self.subject()


class Nginx(Proxy):
    name, needs = "nginx", ("nginx",)
    config = "no tunnel: stream module, listen ssl reuseport; ssl_session_tickets off; a worker a core"

    def server(self):
        self.nginx(self.app_address())


class Haproxy(Proxy):
    name, needs = "haproxy", ("haproxy",)
    config = "no tunnel: mode tcp; bind ssl no-tls-tickets ssl-min-ver TLSv1.3; a thread a core"

    def server(self):
        self.front_port = self.sites.relay.free_ports(self.host)[0]
        pem = self.box.file(f"{self.stem}.pem")
        with open(pem, "w", encoding="ascii") as to:
            for path in (self.field.cert, self.field.key):
                with open(path, encoding="ascii") as part:
                    to.write(part.read())
        conf = self.box.file(f"{self.stem}.cfg", f"""
global
  maxconn {FILES // 2 - 500}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen app
  bind {self.host}:{self.front_port} ssl crt {pem} ssl-min-ver TLSv1.3 no-tls-tickets
  server app {self.app_address()}
""")
        self.serve([self.paths["haproxy"], "-db", "-f", conf], self.front_port, "haproxy")


class Adit(Way):
    name, kinds, fronted = "adit", ("tls",), False
    visitors_of_files = 0.22           # its relay gives one token's tunnels no more, so that others have some
    pump, link = "splice", "sealed"
    config = "relay --pump splice; visitors' TLS ends at the agent"

    def start_server(self):
        self.relay = Relay(self.box, self.stem, "--pump", self.pump, "--link", self.link, host=self.host,
                           prefix=self.sites.relay.prefix, token=["--max-tunnels", "1000", "--max-streams", "100000",
                                                                  "--max-visitors-per-s", "1000000"])
        self.keep("relay", self.relay.process)

    def agent_argv(self, first, count):
        raw = ["--unencrypted", "--link", self.link] if self.kind == "raw" else []
        return [ADIT, "forward", "--json", self.app_address(), "--keep", self.box.file(f"{self.stem}-ticket{first}"),
                *raw]

    def agent_env(self):
        return {"ADIT_TOKEN": self.relay.token}

    def start_agent(self, first, count, argv=None):
        name = f"{self.stem}-agent{first}"
        process = self.field.start(name, argv or self.agent_argv(first, count), self.sites.agent, env=self.agent_env(),
                                   stdout=subprocess.PIPE)
        self.agents.append((name, process))
        self.keep("agent", process)

    def start_many(self):
        """In a program that embeds the library, as `adit forward` takes 64 at most."""
        self.start_agent(0, self.count, [TUNNELS, self.app_address(), str(self.count)])

    def know_address(self):
        """An agent before has left a ticket for it."""
        self.start_agent(0, 1)
        self.wait_through(0)
        self.box.stop(self.running.pop())
        self.agents.pop()
        del self.roles["agent"]

    def wait_through(self, i):
        """Its first line says so; that of one agent, for all its tunnels."""
        if i < len(self.agents):
            name, process = self.agents[i]
            line = self.box.first_line(process, name)
            if "url" not in line:
                raise Failed(f"{name}: {line}")
            self.lines[i] = line

    def public(self, i):
        if self.kind == "raw":
            return (self.relay.host, self.lines[0]["tcp_socket"][1]), None, None
        return (self.relay.host, self.relay.port), host_of(self.lines[0]["url"]), self.relay.ca


class AditCopy(Adit):
    name, pump, config = "adit-copy", "copy", "relay --pump copy"


class AditRaw(Adit):
    kinds, many_tunnels = ("raw",), False


class AditSealed(AditRaw):
    name, config = "adit-sealed", "raw port, sealed between relay and agent (the default)"


class AditPlain(AditRaw):
    name, link = "adit-plain", "plain"
    config = "raw port, relay --link plain and forward --link plain: as little protected as the others' plain links"


class AditPlainCopy(AditPlain):
    name, pump, config = "adit-plain-copy", "copy", "the same, relay --pump copy"


class Rathole(Way):
    name, needs, agents_most = "rathole", ("rathole",), 100   # each takes one of 128 inotify instances
    transport, config = "tcp", "transport tcp, nodelay (its default), nothing encrypted"

    def server_transport(self):
        return ""

    def agent_transport(self):
        return ""

    def server(self):
        self.control = self.sites.relay.free_ports(self.host)[0]
        services = "".join(f'[server.services.s{i}]\ntoken = "bench"\nbind_addr = "{self.host}:{port}"\n'
                           for i, port in enumerate(self.ports))
        conf = self.box.file(f"{self.stem}-server.toml",
                             f'[server]\nbind_addr = "{self.host}:{self.control}"\n[server.transport]\n'
                             f'type = "{self.transport}"\n{self.server_transport()}{services}')
        self.serve([self.paths["rathole"], "--server", conf], self.control)

    def agent_argv(self, first, count):
        services = "".join(f'[client.services.s{i}]\ntoken = "bench"\nlocal_addr = "{self.app_address()}"\n'
                           for i in range(first, first + count))
        conf = self.box.file(f"{self.stem}-agent{first}.toml",
                             f'[client]\nremote_addr = "{self.host}:{self.control}"\n[client.transport]\n'
                             f'type = "{self.transport}"\n{self.agent_transport()}{services}')
        return [self.paths["rathole"], "--client", conf]


class RatholeNoise(Rathole):
    name, kinds, transport, config = "rathole-noise", ("raw",), "noise", "transport noise, with the server's key"

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        words = self.box.run(self.paths["rathole"], "--genkey").split()
        self.private, self.public_key = words[2], words[5]

    def server_transport(self):
        return f'[server.transport.noise]\nlocal_private_key = "{self.private}"\n'

    def agent_transport(self):
        return f'[client.transport.noise]\nremote_public_key = "{self.public_key}"\n'


class RatholeTls(Rathole):
    name, kinds, transport, config = "rathole-tls", ("raw",), "tls", "transport tls, P-256 certificate"

    def server_transport(self):
        archive = self.box.file(f"{self.stem}.pfx")
        self.box.run("openssl", "pkcs12", "-export", "-out", archive, "-inkey", self.field.key, "-in", self.field.cert,
                     "-passout", "pass:bench")
        return f'[server.transport.tls]\npkcs12 = "{archive}"\npkcs12_password = "bench"\n'

    def agent_transport(self):
        return f'[client.transport.tls]\ntrusted_root = "{self.field.ca}"\nhostname = "{NAME}"\n'


class Frp(Way):
    name, needs = "frp", ("frps", "frpc")
    mux, tls = "false", "false"
    config = "transport.tcpMux = false, transport.tls.enable = false, poolCount 5"

    def server(self):
        self.control = self.sites.relay.free_ports(self.host)[0]
        conf = self.box.file(f"{self.stem}-server.toml",
                             f'bindAddr = "{self.host}"\nproxyBindAddr = "{self.host}"\nbindPort = {self.control}\n'
                             f'transport.tcpMux = {self.mux}\ntransport.maxPoolCount = 5\nlog.level = "error"\n')
        self.serve([self.paths["frps"], "-c", conf], self.control)

    def agent_argv(self, first, count):
        services = "".join(f'[[proxies]]\nname = "s{i}"\ntype = "tcp"\nlocalIP = "{self.sites.app_host}"\n'
                           f'localPort = {self.field.app}\nremotePort = {self.ports[i]}\n'
                           for i in range(first, first + count))
        conf = self.box.file(f"{self.stem}-agent{first}.toml",
                             f'serverAddr = "{self.host}"\nserverPort = {self.control}\n'
                             f'transport.tcpMux = {self.mux}\ntransport.tls.enable = {self.tls}\n'
                             f'transport.poolCount = 5\nlog.level = "error"\n{services}')
        return [self.paths["frpc"], "-c", conf]


class FrpTls(Frp):
    name, kinds, tls = "frp-tls", ("raw",), "true"
    config = "transport.tcpMux = false, TLS between frpc and frps"


class FrpDefault(Frp):
    name, mux, tls, config = "frp-default", "true", "true", "as it comes: multiplexed, TLS between frpc and frps"


class Bore(Way):
    name, needs, many_tunnels, config = "bore", ("bore",), False, "bore server and bore local, nothing encrypted"
    CONTROL = 7835                     # cannot be chosen

    def server(self):
        self.serve([self.paths["bore"], "server", "--bind-addr", self.host], self.CONTROL)

    def agent_argv(self, first, count):
        return [self.paths["bore"], "local", str(self.field.app), "--local-host", self.sites.app_host, "--to",
                self.host, "--port", str(self.ports[first])]


class Chisel(Way):
    name, needs, config = "chisel", ("chisel",), "chisel server --reverse and chisel client R:...; SSH over WebSocket"

    def server(self):
        self.control = self.sites.relay.free_ports(self.host)[0]
        self.serve([self.paths["chisel"], "server", "--host", self.host, "--port", str(self.control),
                    "--reverse"], self.control)

    def agent_argv(self, first, count):
        return [self.paths["chisel"], "client", f"http://{self.host}:{self.control}",
                *(f"R:{self.host}:{self.ports[i]}:{self.app_address()}" for i in range(first, first + count))]


class Ssh(Way):
    name, needs, agents_most, visitors_most = "ssh", ("ssh", "sshd", "ssh-keygen"), 100, 1000
    config = "OpenSSH, ssh -N -R; aes128-gcm@openssh.com, no compression"

    def make_keys(self):
        for key in ("host", "user"):
            self.box.run(self.paths["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f",
                         self.box.file(f"{self.stem}-{key}"))

    def privileged(self, argv):
        """sshd wants a user of that name and a folder, which one that is not installed has not brought: they are made
        in a mount namespace of its own."""
        os.makedirs("/run/sshd", exist_ok=True)
        with open("/etc/passwd", encoding="utf-8") as f:
            users = f.read()
        if "\nsshd:" in users:
            return argv
        users += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"',
                self.box.file(f"{self.stem}-passwd", users), *argv]

    def server(self):
        if os.getuid() != 0:
            raise programs.Missing("ssh: sshd wants root here")
        self.make_keys()
        self.control = self.sites.relay.free_ports(self.host)[0]
        conf = self.box.file(f"{self.stem}-sshd.conf", f"""
ListenAddress {self.host}:{self.control}
HostKey {self.box.file(f"{self.stem}-host")}
AuthorizedKeysFile {self.box.file(f"{self.stem}-user")}.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
GatewayPorts clientspecified
MaxStartups 2000
MaxSessions 2000
UseDNS no
LogLevel ERROR
""")
        self.serve(self.privileged([self.paths["sshd"], "-D", "-e", "-f", conf]), self.control)

    def identity(self):
        return ["-i", self.box.file(f"{self.stem}-user")]

    def agent_argv(self, first, count):
        remotes = [word for i in range(first, first + count)
                   for word in ("-R", f"{self.host}:{self.ports[i]}:{self.app_address()}")]
        return [self.paths["ssh"], "-F", "none", "-N", "-p", str(self.control), *self.identity(), "-o",
                "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o",
                "ExitOnForwardFailure=yes", "-o", "Ciphers=aes128-gcm@openssh.com", "-o", "Compression=no", *remotes,
                f"root@{self.host}"]


class Sish(Ssh):
    name, needs, config = "sish", ("sish", "ssh", "ssh-keygen"), "sish, reached by ssh -R; aes128-gcm@openssh.com"

    def server(self):
        self.make_keys()
        self.control = self.sites.relay.free_ports(self.host)[0]
        keys, http = self.box.file(f"{self.stem}-keys"), self.sites.relay.free_ports(self.host)[0]
        os.mkdir(keys)
        self.serve([self.paths["sish"], "--ssh-address", f"{self.host}:{self.control}", "--http-address",
                    f"{self.host}:{http}", "--authentication=false", "--bind-random-ports=false", "--port-bind-range",
                    "1024-65535", "--force-requested-ports=true", "--private-keys-directory", keys, "--domain", NAME],
                   self.control)


WAYS = [Direct, Nginx, Haproxy, Adit, AditCopy, AditPlain, AditPlainCopy, AditSealed, Frp, FrpTls, FrpDefault, Rathole,
        RatholeNoise, RatholeTls, Bore, Chisel, Sish, Ssh]
