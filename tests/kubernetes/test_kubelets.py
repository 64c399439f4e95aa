"""Kubelets that are asked what Pods have used, and what they answer instead; they are none."""

import asyncio
import ssl

import httpx2
import pytest
from adit.functions.engine import kubelets

COUNTED = 'container_cpu_usage_seconds_total{container="function",namespace="adit",pod="p"} 1.5 1700000000000\n'


@pytest.fixture
def of(monkeypatch):
    """of(answer) -> Kubelets whose nodes answer so, and whom they were."""

    def make(answer):
        asked = []

        async def handle(request):
            asked.append(request.url.host)
            if isinstance(answer, Exception):
                raise httpx2.ConnectError("no") from answer
            return httpx2.Response(answer, text=COUNTED)

        made = kubelets.Kubelets.__new__(kubelets.Kubelets)
        made._has_trust, made._silent, made._has_told = True, {}, False
        made._http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
        return made, asked

    return make


def count(made, times=2):
    async def ask():
        return [await made.count(node, "adit") for _ in range(times) for node in ("10.0.0.1", "10.0.0.2")]

    return asyncio.run(ask())


def test_what_they_have_counted_is_had(of):
    made, _ = of(200)
    assert count(made) == [{"p": 1_500_000_000}] * 4


@pytest.mark.parametrize("answer", [401, 403, ssl.SSLCertVerificationError("self-signed certificate")])
def test_one_that_refuses_is_not_asked_again_and_that_is_said_once(of, capfd, monkeypatch, answer):
    made, asked = of(answer)
    monkeypatch.setattr(kubelets, "AGAIN_S", 0.0)
    assert count(made) == [{}] * 4 and asked == ["10.0.0.1", "10.0.0.2"]
    assert capfd.readouterr().err.count("their own word counts") == 1


@pytest.mark.parametrize("answer", [500, 503, OSError("no route to host"), TimeoutError()])
def test_one_that_is_away_is_asked_again_later(of, capfd, monkeypatch, answer):
    made, asked = of(answer)
    assert count(made) == [{}] * 4 and asked == ["10.0.0.1", "10.0.0.2"]
    made._silent = dict.fromkeys(made._silent, 0.0)
    assert count(made, 1) == [{}] * 2 and len(asked) == 4
    assert capfd.readouterr().err == ""
