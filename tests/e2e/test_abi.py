"""Programs that were compiled against an earlier adit.h: they run with the library of today, and what would break them
is refused."""
import os
import re
import subprocess

import pytest

from kit.app import read_exactly
from kit.process import BUILD, DEADLINE_S
from kit.tls import TlsVisitor, context

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def test_a_program_of_then_runs_with_the_library_of_today(relay, box, app):
    a = app()
    program = box.start([os.path.join(BUILD, "tests", "e2e", "earlier-host"), a.port, box.file("ticket")],
                        env={"ADIT_TOKEN": relay.token()}, stdin=subprocess.PIPE)
    _, host, has_port = program.out.wait(lambda line: line.startswith("open ")).split()
    assert has_port == "1" and os.path.exists(box.file("ticket"))
    v = TlsVisitor(relay.address, host, context(relay.authority, alpn=["x-earlier"]))
    connection = a.accept()
    v.sendall(b"then")
    # PROXY v2, of IPv4, with the name of the protocol behind the addresses
    header = read_exactly(connection, 16)
    assert header.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
    assert b"x-earlier" in read_exactly(connection, int.from_bytes(header[14:], "big"))
    assert read_exactly(connection, 4) == b"then"
    connection.sendall(b"now")                         # behind which what came is counted
    assert read_exactly(v, 3) == b"now"
    v.close()
    program.popen.stdin.write(b"\n")
    program.popen.stdin.close()
    assert program.wait() == 0, program.report()
    assert re.search(r"^visitors 1 to app [1-9]", program.out.text(), re.MULTILINE), program.out.text()


@pytest.mark.unsanitized
class TestTheHeader:
    """As tools/abi judges it, which ./check asks about include/adit.h."""

    def judge(self, box, old, new):
        with open(os.path.join(ROOT, "tests", "abi", "adit.h")) as f:
            header, n = re.subn(old, new, f.read(), flags=re.MULTILINE)
        assert n == 1, n
        return box.run(os.path.join(ROOT, "tools", "abi"), box.file("adit.h", header), seconds=DEADLINE_S)

    @pytest.mark.parametrize("old, new", [
        (r"^(ADIT_EXPORT .*adit_version.*)",
         r"\1\nstruct adit_more;\nADIT_EXPORT int adit_more(const struct adit_more *more);"),
        (r"(ADIT_ESYSTEM = -11) ", r"\1, ADIT_EMORE = -12"),
        (r"(ADIT_EVENT_CLOSED) ", r"\1, ADIT_EVENT_MORE"),
        (r"^(  const char \*keep_file;.*)", r"\1\n  const char *more;\n  int most;"),
        (r"(#define ADIT_EXPORT)", r"#define ADIT_MORE 1\n\1"),
    ])
    def test_may_grow(self, box, old, new):
        done = self.judge(box, old, new)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("old, new", [
        (r"^ADIT_EXPORT .*adit_errno_last.*", ""),                                       # one function less
        (r"int adit_errno_last\(void\)", "long adit_errno_last(void)"),
        (r"uint16_t adit_tunnel_port", "uint32_t adit_tunnel_port"),
        (r"(adit_tunnel_close\(.*) uint32_t", r"\1 uint64_t"),
        (r"( adit_wait_open\(struct.*)\)", r"\1, int flags)"),
        (r"int h2; ", "int h2, more;"),                                                   # amid the options
        (r"  size_t allow_n;", r"  size_t allow_n; int more;"),
        (r"^(  const char \*keep_file;)", r"  int more;\n\1"),
        (r"^  const char \*alpn;.*", ""),
        (r"int unencrypted; ", "unsigned unencrypted;"),
        (r"int unencrypted; ", "long unencrypted;"),
        (r"int plain; ", "int flat;"),
        (r"size_t size; ", "uint32_t size;"),
        # of structures that do not tell their size
        (r"app_failures;", "app_failures, more;"),
        (r"char text\[512\]", "char text[1024]"),
        (r"visitors_now, visitors_total", "visitors_total, visitors_now"),
        (r"ADIT_EREFUSED = -6", "ADIT_EREFUSED = -16"),
        (r"ADIT_ECLOSED = -9,", ""),
        (r"(ADIT_EVENT_RESTORED,)", r"ADIT_EVENT_MORE, \1"),
        (r"const char \*reason; ", "char *reason;"),
    ])
    def test_may_not_change(self, box, old, new):
        done = self.judge(box, old, new)
        assert done.returncode == 1 and "1 failed" in done.stdout or "2 failed" in done.stdout, (
            done.stdout + done.stderr
        )
