"""A visitor in Java, with the suites of TLS 1.3 and with those of TLS 1.2 that Java 8 has, too."""
import os

import pytest

from kit.app import echo
from kit.roles import Agent

ECHO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "appkit", "Echo.java")
SUITES = {"TLSv1.2": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                      "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
          "TLSv1.3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]}


@pytest.mark.parametrize("version", SUITES)
def test_java_talks_with_each_suite(relay, app, box, version):
    tunnel = Agent(box, relay, [app(echo)]).tunnels[0]
    address, port = relay.dial.rsplit(":", 1)
    done = box.run("java", f"-Djdk.tls.client.protocols={version}", ECHO, relay.authority, address, port, tunnel.host,
                   *SUITES[version])
    assert done.stdout.splitlines() == [f"{version} {suite} true" for suite in SUITES[version]], done.stderr
