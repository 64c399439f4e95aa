"""What somebody waits for who starts a tunnel: from the start of the agent's program, with the server there, to the
first byte that a visitor gets; and for adit to its line that says that it is open, beside a program that does little
more than load the same library."""
import json

from box import ADIT, LOAD

from . import programs
from .workload import Workload


class Begin(Workload):
    group = "start"
    figures = (("first_us", "to first byte, us", 0),)

    def takes(self, run, subject):
        return subject.way.tunnel

    def run(self, run, subject):
        way = type(subject.way)(run.field, subject.way.kind)
        try:
            way.start_server()
            way.know_address()
            argv = way.agent_argv(0, 1)
            result = way.subject().measure(
                run.box, "first", "--", *way.sites.agent.prefix, *argv,
                env={**way.agent_env(), **programs.environment(argv[0])})
            return {"first_us": result["first_us"]}
        finally:
            way.stop()


class Open(Workload):
    group, kinds = "start", ("tls",)
    figures = (("open_us", "to the open line, us", 0), ("openssl_us", "openssl version, us", 0), ("ratio", "ratio", 2))
    against_direct = False

    def takes(self, run, subject):
        return subject.title == "adit"

    def run(self, run, subject):
        count = "10" if run.quick else "50"
        figures = {}
        for key, argv, env in (
                ("openssl_us", ["--expect", "OpenSSL", "--", programs.need("openssl"), "version"], {}),
                ("open_us", ["--", ADIT, "forward", "--json", subject.way.app_address()], subject.way.agent_env())):
            figures[key] = json.loads(run.box.run(LOAD, "open", "--count", count, *argv, env=env))["p50_us"]
        figures["ratio"] = figures["open_us"] / figures["openssl_us"]
        return figures


WORKLOADS = [
    Begin("start", "from exec to the first byte"),
    Open("open", "from exec to the open line"),
]
