"""What kubelets have counted of Pods, at /metrics/resource: a look now and then, for what Pods say of themselves. Only
where this account may ask them, and they show a certificate of the cluster's authority; else it is not done."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

import httpx2
from lightkube.config.client_adapter import user_auth, verify_cluster

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

PORT = 10250
ANSWER_S = 5.0
_LINE = re.compile(r"^container_cpu_usage_seconds_total\{([^}]*)\} ([0-9.e+-]+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Kubelets:
    """Of one cluster. One that refuses is not asked again."""

    def __init__(self, config: SingleConfig) -> None:
        assert config.user is not None
        trust = verify_cluster(config.cluster, config.user, config.abs_file)
        self._has_trust = not isinstance(trust, ssl.SSLContext) or trust.verify_mode == ssl.CERT_REQUIRED
        self._http = httpx2.AsyncClient(verify=trust, auth=user_auth(config.user), timeout=ANSWER_S, trust_env=False)
        self._silent: set[str] = set()

    async def count(self, address: str, namespace: str) -> dict[str, int]:
        """The nanoseconds of processors that Pods have had on the node at an address, by their names."""
        if address in self._silent or not self._has_trust:
            return {}
        host = f"[{address}]" if ":" in address else address
        try:
            answer = await self._http.get(f"https://{host}:{PORT}/metrics/resource")
            answer.raise_for_status()
        except httpx2.HTTPError:
            self._silent.add(address)
            return {}
        return read(answer.text, namespace)

    async def close(self) -> None:
        """No more."""
        await self._http.aclose()


def read(text: str, namespace: str) -> dict[str, int]:
    """The text that a kubelet answers with."""
    counted: dict[str, int] = {}
    for labels, seconds in _LINE.findall(text):
        about = dict(_LABEL.findall(labels))
        if about.get("namespace") == namespace and about.get("container") == "function":
            counted[about.get("pod", "")] = round(float(seconds) * 1e9)
    return counted
