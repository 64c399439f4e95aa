"""What kubelets have counted of Pods, at /metrics/resource: a look now and then, for what Pods say of themselves. Only
where this account may ask them, and they show a certificate of the cluster's authority; else it is not done."""

from __future__ import annotations

import math
import re
import ssl
import sys
import time
from typing import TYPE_CHECKING

import httpx2
from lightkube.config.client_adapter import user_auth, verify_cluster

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

PORT = 10250
ANSWER_S = 5.0
AGAIN_S = 60.0  # after one did not answer
REFUSED = (401, 403)
_LINE = re.compile(r"^container_cpu_usage_seconds_total\{([^}]*)\} ([0-9.e+-]+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Kubelets:
    """Of one cluster. One that refuses, or shows another certificate, is not asked again; one that does not answer, for
    a while."""

    def __init__(self, config: SingleConfig) -> None:
        assert config.user is not None
        trust = verify_cluster(config.cluster, config.user, config.abs_file)
        self._has_trust = not isinstance(trust, ssl.SSLContext) or trust.verify_mode == ssl.CERT_REQUIRED
        self._http = httpx2.AsyncClient(verify=trust, auth=user_auth(config.user), timeout=ANSWER_S, trust_env=False)
        self._silent: dict[str, float] = {}  # by its address, until when
        self._has_told = False

    async def count(self, address: str, namespace: str) -> dict[str, int]:
        """The nanoseconds of processors that Pods have had on the node at an address, by their names."""
        if self._silent.get(address, 0.0) > time.monotonic() or not self._has_trust:
            return {}
        host = f"[{address}]" if ":" in address else address
        try:
            answer = await self._http.get(f"https://{host}:{PORT}/metrics/resource")
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            refusal = _refusal(error)
            self._silent[address] = math.inf if refusal else time.monotonic() + AGAIN_S
            if refusal and not self._has_told:
                self._has_told = True
                text = f"kubelets do not tell what Pods use, so their own word counts: {refusal}"
                print(f"adit: {text} (deploy/kubernetes/meter.yaml)", file=sys.stderr, flush=True)
            return {}
        return read(answer.text, namespace)

    async def close(self) -> None:
        """No more."""
        await self._http.aclose()


def _refusal(error: BaseException) -> str:
    """Why asking again is of no use; empty: it may be."""
    if isinstance(error, httpx2.HTTPStatusError) and error.response.status_code in REFUSED:
        return f"{error.response.status_code} {error.response.reason_phrase}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return f"their certificate: {cause}" if cause is not None else ""


def read(text: str, namespace: str) -> dict[str, int]:
    """The text that a kubelet answers with."""
    counted: dict[str, int] = {}
    for labels, seconds in _LINE.findall(text):
        about = dict(_LABEL.findall(labels))
        if about.get("namespace") == namespace and about.get("container") == "function":
            counted[about.get("pod", "")] = round(float(seconds) * 1e9)
    return counted
