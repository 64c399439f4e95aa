"""The relay's certificates: its own and an operator's, who sees what of them, and their replacement."""
import json
import os
import re
import signal
import ssl
import subprocess

import pytest

from kit import tls
from kit.app import echo, read_exactly
from kit.certificate import DAY_S, Identity, OwnCertificate
from kit.errors import expect_error
from kit.process import ADIT, DEADLINE_S


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


@pytest.fixture
def own(box):
    return OwnCertificate(box)


@pytest.fixture
def relay_with_own(own, start_relay):
    return start_relay(options=["--cert", own.cert, "--key", own.key])


@pytest.fixture
def unpinned(own, start_relay, box):
    """A relay whose chain does not bring its authority, as public ones do not: its tokens have no pin."""
    own.issue(chain="leaf")
    return start_relay(options=["--cert", own.cert, "--key", own.key])


PLACES_OF_AUTHORITIES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                         "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem",
                         "/etc/ssl/cert.pem"]


def on_another_distribution(ca, place):
    """Runs a program where /etc holds that file of authorities and nothing else."""
    script = 'mount -t tmpfs none /etc && mkdir -p "${1%/*}" && cp "$0" "$1" && shift && exec "$@"'
    return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, ca, place]


def serial(visitor, tunnel, own):
    v = visitor(tunnel, context=tls.context(own.ca))
    talk(v)
    return int(v.tls.getpeercert()["serialNumber"], 16)


def presented(relay, name, *options):
    """The subjects of the certificates that a relay sends for a name, in its order."""
    done = subprocess.run(["openssl", "s_client", "-connect", relay.dial, "-servername", name, "-showcerts", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=DEADLINE_S)
    return re.findall(r"^ *\d+ s:.*CN = (.*)", done.stdout, re.MULTILINE)


class TestChain:
    """A trust anchor that comes with the chain proves nothing, and some clients fail at the relay's name-constrained
    one."""

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_visitors_get_the_relays_own_certificate_alone(self, relay, agent, app, version):
        assert presented(relay, agent(app(echo)).host, version) == ["r1.test"]

    def test_control_links_get_the_authority_which_is_pinned(self, relay):
        leaf, authority = presented(relay, "r1.test", "-alpn", "adit/1")
        assert leaf == "r1.test" and authority.startswith("adit authority")

    def test_of_an_operators_chain_visitors_get_all_but_the_root(self, own, start_relay, agent, app, visitor):
        own.issue(chain="leaf between root")
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        tunnel = agent(app(echo), relay=relay)
        assert presented(relay, tunnel.host) == ["r1.test", "our intermediate"]
        assert presented(relay, "r1.test", "-alpn", "adit/1") == ["r1.test", "our intermediate", "our authority"]
        assert serial(visitor, tunnel, own)

    def test_a_certificate_that_is_its_own_authority_is_sent(self, own, start_relay, agent, app):
        own.issue(chain="leaf", self_signed=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        assert presented(relay, agent(app(echo), relay=relay).host) == ["r1.test"]


def other_authority(own):
    """A file of system's authorities in which own's is not."""
    return own.box.file("others.pem", Identity("another authority", authority=True).pem)


class TestOwnCertificate:
    def test_it_is_what_visitors_see(self, relay_with_own, own, agent, app, visitor, box):
        tunnel = agent(app(echo), relay=relay_with_own)
        want = box.run("openssl", "x509", "-in", own.cert, "-noout", "-serial").stdout.strip().split("=")[1]
        assert serial(visitor, tunnel, own) == int(want, 16)

    def test_without_a_pin_the_agent_verifies_by_ca(self, unpinned, own, agent, app, visitor, box):
        expect_error(box.adit("forward", "8000", env={"ADIT_TOKEN": unpinned.token()}), 1, "certificate")
        assert serial(visitor, agent(app(echo), "--ca", own.ca, relay=unpinned), own)

    @pytest.mark.parametrize("place", PLACES_OF_AUTHORITIES)
    def test_without_a_pin_the_authorities_of_any_distribution_are_found(self, unpinned, own, agent, app, visitor,
                                                                         place):
        assert serial(visitor, agent(app(echo), relay=unpinned, prefix=on_another_distribution(own.ca, place)), own)

    def test_a_machine_without_authorities_is_told_of(self, unpinned, own, box):
        done = box.run(*on_another_distribution(own.ca, "/etc/elsewhere.pem"), ADIT, "forward", "8000",
                       env={"ADIT_TOKEN": unpinned.token()})
        expect_error(done, 1, "ca-certificates")

    def test_an_rsa_certificate_serves_too(self, own, start_relay, agent, app, visitor):
        own.issue(rsa_key=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        tunnel = agent(app(echo), relay=relay)
        assert serial(visitor, tunnel, own)
        for suite in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"):
            v = visitor(tunnel, context=tls.context(own.ca, version=ssl.TLSVersion.TLSv1_2, ciphers=suite))
            assert v.tls.cipher()[0] == suite
            talk(v)

    @pytest.mark.parametrize("how", ["SIGHUP", "files"])
    def test_a_new_one_is_taken_and_no_connection_dropped(self, relay_with_own, own, agent, app, visitor, how):
        relay = relay_with_own
        tunnel = agent(app(echo), relay=relay)
        v = visitor(tunnel, context=tls.context(own.ca))
        talk(v)
        new = own.issue()
        if how == "SIGHUP":
            relay.process.kill(signal.SIGHUP)
        relay.process.err.wait(lambda line: "cert" in line.lower() and "reload" in line.lower())
        assert serial(visitor, tunnel, own) == new
        talk(v, b"not dropped")
        assert not tunnel.events.seen("reconnecting")

    @pytest.mark.parametrize("bad", ["garbage", "other-names", "key-of-another"])
    def test_a_bad_one_is_refused_and_the_old_one_stays(self, relay_with_own, own, agent, app, visitor, bad, box):
        relay = relay_with_own
        tunnel = agent(app(echo), relay=relay)
        old = serial(visitor, tunnel, own)
        if bad == "garbage":
            box.file("cert.pem", "garbage\n")
        elif bad == "other-names":
            own.issue(names=["example.com"])
        else:
            key = open(own.key).read()
            own.issue()
            box.file("cert.key", key)
        seen = len(relay.process.err.lines)
        relay.process.kill(signal.SIGHUP)
        relay.process.err.wait(lambda line: "cert" in line.lower()
                               and ("refus" in line.lower() or "kept" in line.lower() or "fail" in line.lower()))
        assert serial(visitor, tunnel, own) == old and len(relay.process.err.lines) > seen

    @pytest.mark.parametrize("names", [["r1.test"], ["*.r1.test"], ["example.com", "*.example.com"]])
    def test_it_must_cover_the_domain_and_its_wildcard(self, own, box, names):
        own.issue(names=names)
        done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", box.file("s"), "--cert",
                        own.cert, "--key", own.key)
        expect_error(done, 1, "r1.test")

    def test_h2_wants_the_operators_consent(self, own, start_relay, agent, app, visitor, box):
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        done = box.adit("forward", "8000", "--h2", env={"ADIT_TOKEN": relay.token()})
        expect_error(done, 1, "h2")
        consenting = start_relay(options=["--cert", own.cert, "--key", own.key, "--h2-shared-name"])
        tunnel = agent(app(echo), "--h2", relay=consenting)
        assert visitor(tunnel, context=tls.context(own.ca, alpn=["h2"])).tls.selected_alpn_protocol() == "h2"

    def test_a_new_pin_is_told_and_new_tokens_carry_it(self, relay_with_own, own, agent, app, visitor):
        relay = relay_with_own
        relay.token()
        own.issue(chain="leaf", self_signed=True)
        relay.process.kill(signal.SIGHUP)
        assert "new tokens" in relay.process.err.wait(lambda line: " pin_changed " in line)
        agent(app(echo), relay=relay, token=relay.create_token("later"))


NOT_VALID = [("has expired", {"begins_s": -10 * DAY_S, "ends_s": -DAY_S}), ("is not valid before", {"begins_s": DAY_S})]


class TestTime:
    """A certificate whose time is over or has not come is better than none, and worse than one that is valid."""

    @pytest.mark.parametrize("how", ["SIGHUP", "files"])
    @pytest.mark.parametrize("words,times", NOT_VALID)
    def test_it_does_not_replace_a_valid_one(self, relay_with_own, own, agent, app, visitor, how, words, times):
        relay = relay_with_own
        tunnel = agent(app(echo), relay=relay)
        old = serial(visitor, tunnel, own)
        own.issue(**times)
        if how == "SIGHUP":
            relay.process.kill(signal.SIGHUP)
        line = relay.process.err.wait(lambda line: " certificate_refused " in line)
        assert words in line and own.cert in line and "stays" in line
        assert serial(visitor, tunnel, own) == old
        assert relay.metric("certificate_valid") == 1

    @pytest.mark.parametrize("chain", ["leaf between root", "leaf root between", "leaf between"])
    @pytest.mark.parametrize("words,times", [("has expired", NOT_VALID[0][1]), ("not yet valid", NOT_VALID[1][1])])
    def test_nor_does_one_whose_intermediate_is_not_valid(self, own, start_relay, agent, app, visitor, words, times,
                                                          chain):
        """Also where only agents and visitors know the authority."""
        own.issue(chain=chain)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key],
                            prefix=["env", f"SSL_CERT_FILE={other_authority(own)}"])
        tunnel = agent(app(echo), "--ca", own.ca, relay=relay)
        old = serial(visitor, tunnel, own)
        own.between = Identity("our intermediate", own.root, authority=True, **times)
        own.issue(chain=chain)
        relay.process.kill(signal.SIGHUP)
        line = relay.process.err.wait(lambda line: " certificate_refused " in line)
        assert words in line and "our intermediate" in line and own.cert in line and "stays" in line
        assert serial(visitor, tunnel, own) == old

    @pytest.mark.parametrize("event,words,times",
                             [("certificate_expired", "since=", NOT_VALID[0][1]),
                              ("certificate_not_yet_valid", "until=", NOT_VALID[1][1])])
    def test_a_warning_at_the_start_says_since_or_until_when(self, own, start_relay, box, event, words, times):
        own.issue(**times)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        line = relay.process.err.wait(lambda line: f" {event} " in line)
        assert " warn " in line and words in line
        status = json.loads(relay.get("/status"))
        assert status["certificate_valid"] is False and relay.metric("certificate_valid") == 0
        assert (
            status["certificate_expires_at_s"] - status["certificate_begins_at_s"]
            == times.get("ends_s", 20 * DAY_S) - times["begins_s"]
        )
        assert "NOT VALID NOW" in box.adit("status", "--admin", f"127.0.0.1:{relay.admin}").stdout

    def test_a_valid_one_takes_its_place(self, own, start_relay, agent, app, visitor, box):
        own.issue(**NOT_VALID[0][1])
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        expect_error(box.adit("forward", "8000", env={"ADIT_TOKEN": relay.token()}), 1, "has expired")
        new = own.issue()
        relay.process.err.wait(lambda line: " certificate_reloaded" in line)
        assert serial(visitor, agent(app(echo), relay=relay), own) == new
        assert relay.metric("certificate_valid") == 1
        assert "NOT VALID" not in box.adit("status", "--admin", f"127.0.0.1:{relay.admin}").stdout


class TestMissingIntermediate:
    """A chain that leads nowhere serves whoever has the rest, and nobody else: the relay's log and the agent name the
    cause."""

    def told(self, relay):
        relay.process.err.wait(lambda line: " relay_ready " in line)
        return [line for line in relay.process.err.lines if " certificate_chain " in line]

    @pytest.mark.parametrize("chain", ["leaf", "leaf root", "leaf between"])
    def test_the_relay_warns_at_the_start(self, own, start_relay, chain):
        own.issue(chain=chain, below=True)
        line, = self.told(start_relay(options=["--cert", own.cert, "--key", own.key],
                                      prefix=["env", f"SSL_CERT_FILE={other_authority(own)}"]))
        missing = "our authority" if chain == "leaf between" else "our intermediate"
        assert " warn " in line and missing in line and own.cert in line and "whole chain" in line

    def test_and_when_it_reads_again(self, relay_with_own, own):
        own.issue(chain="leaf", below=True)
        relay_with_own.process.kill(signal.SIGHUP)
        assert "our intermediate" in relay_with_own.process.err.wait(lambda line: " certificate_chain " in line)

    @pytest.mark.parametrize("chain", ["leaf root", "leaf between root"])
    def test_a_chain_to_its_own_authority_is_whole(self, own, start_relay, chain):
        own.issue(chain=chain)
        assert self.told(start_relay(options=["--cert", own.cert, "--key", own.key])) == []

    def test_a_chain_to_an_authority_of_the_system_is_whole(self, own, start_relay):
        own.issue(chain="leaf between")
        assert self.told(start_relay(options=["--cert", own.cert, "--key", own.key],
                                     prefix=["env", f"SSL_CERT_FILE={own.ca}"])) == []

    def test_a_certificate_that_is_its_own_authority_is_whole(self, own, start_relay):
        own.issue(chain="leaf", self_signed=True)
        assert self.told(start_relay(options=["--cert", own.cert, "--key", own.key])) == []

    @pytest.mark.parametrize("chain,whole", [("leaf", False), ("leaf between", True)])
    def test_where_no_authorities_are_known_only_a_leaf_alone_is_doubted(self, own, start_relay, chain, whole):
        own.issue(chain=chain, below=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key],
                            prefix=["env", "SSL_CERT_FILE=/nonexistent"])
        assert (self.told(relay) == []) == whole

    def test_an_agent_names_the_possibility(self, own, start_relay, box):
        own.issue(chain="leaf", below=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        line = expect_error(box.adit("forward", "8000", "--ca", own.ca, env={"ADIT_TOKEN": relay.token()}), 1,
                            "without the intermediate", "whole chain")
        assert "unknown authority" in line
