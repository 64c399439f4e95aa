"""A cluster: each container of a function is a bare Pod, which nothing starts again. Images are made by the engine of
this machine, and reach the nodes by a registry. The hard thing: nothing of this machine is in a Pod, so what a
container here has by mounts, a Pod has through the gate (gate.py, pod.py)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import re
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ... import Client
from ...exception import ConfigError, Error, ImageError, RemoteError
from .. import engines
from ..foreman import owner, places, worker
from ..pod import HELD_S
from ..session import PATIENCE_S
from . import GONE, SAMPLED, Container, Ended, Resources, Running, Usage, tasks
from .docker import SCRATCH, Docker
from .gate import Gate, Guest
from .log import Log
from .patience import patiently

try:
    import httpx2
    from lightkube import AsyncClient, KubeConfig
    from lightkube.core.exceptions import ConfigError as KubeConfigError
    from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
    from lightkube.resources.core_v1 import Pod, Secret
    from lightkube.utils.quantity import parse_quantity

    from .claims import NAME_MAX, Claims, claim_name
    from .kubelets import Kubelets
    from .told import NOT_FOUND, status_of, told
except ImportError as error:
    raise ConfigError(f"kubernetes: {error} (pip install 'adit[kubernetes]')") from None

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

RIGHTS = {"pods": ("create", "list", "watch", "delete"), "pods/log": ("get",), "secrets": ("create",)}
MANAGED: dict[str, Any] = {"app.kubernetes.io/managed-by": "adit"}
WITHIN = "adit.within"  # an annotation: the seconds for which its foreman waits for it
STATE = "adit.state"  # a label: of which state folder's foreman it is, as names and boots of machines do not tell here
SETTINGS_FOLDER = "/run/secrets/adit"
RELIST_S = 30.0
COUNT_S = 10.0
REMOVE_S = 10.0
COME_S = 15.0  # for a Pod that runs, to the gate of its next foreman
AGAIN_S = 0.5
GONE_S = 10.0  # after which a cluster that does not answer may run nothing of ours
STALE_S = 60.0  # that what a Pod was is left for those who may still ask, when it has ended
TELL_S = 1.0  # why a Pod does not start, before whoever waits for it only knows that it is late
GRACE_S = 1
GPU, GPU_LABEL = "nvidia.com/gpu", "adit.gpu"
ANY_GPU = "any"
# Of a container that does not start: nothing of it mends itself.
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_BROKEN = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
_TRIED = re.compile(r"\.? *(no new claims to deallocate, *)?preemption: .*", re.DOTALL)  # what might be ended for it


class KubernetesPod:
    """A container there."""

    def __init__(self, engine: Kubernetes, name: str, guest: Guest | None = None) -> None:
        self._engine, self.id, self._guest = engine, name, guest
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[Ended] = loop.create_future()
        self._deleted = asyncio.Event()
        self._wait = ""
        self.is_made = guest is None
        """Since when the cluster has it, so that a list without it means that it has gone."""
        self.node = ""
        self.counted = 0
        """Nanoseconds of processors, by its node."""
        self.read_until = 0.0
        """What it wrote before somebody else has read, by the wall clock."""

    # --- what the cluster tells ---

    def take(self, event: str, pod: Pod) -> None:
        """How it stands."""
        if event == "DELETED":
            self._deleted.set()
            self.settle(Ended(GONE))
            return
        status = pod.status
        if status is None:
            return
        self.node = status.hostIP or self.node
        for condition in status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                self._wait = f"no node takes it: {_TRIED.sub('', condition.message or '')}"
        for container in status.containerStatuses or []:
            state = container.state
            if state is None:
                continue
            if state.waiting is not None:
                self._look_broken(state.waiting.reason or "", state.waiting.message or "")
            if state.running is not None and not self._up.done():
                self._up.set_result(None)
            if (end := state.terminated) is not None:
                self.settle(Ended(end.exitCode, end.reason == "OOMKilled" and end.exitCode != 0))
        if status.phase == "Failed":  # before, or without, a word about the container
            words = ": ".join(filter(None, (status.reason, status.message)))
            self.settle(Ended(GONE, why=f"its Pod was ended by the cluster ({words})" if words else ""))

    def _look_broken(self, reason: str, message: str) -> None:
        if reason in _IMAGE:
            self._break(ImageError(f"kubernetes: {reason}: {message}"))
        elif reason in _BROKEN:
            self._break(RemoteError(f"kubernetes: {reason}: {message}"))
        elif reason != "ContainerCreating":
            self._wait = f"{reason}: {message}"

    def _break(self, error: Error) -> None:
        if not self._up.done():
            self._up.set_exception(error)

    def settle(self, ended: Ended) -> None:
        """It has ended."""
        if not self._up.done():
            self._up.set_result(None)
        if not self._ended.done():
            self._ended.set_result(ended)

    async def up(self, began: float, within: float) -> None:
        """Waits until its container runs, which it is to be within so many seconds of then. ImageError when its image
        cannot be had, RemoteError for all else."""
        left = began + within - TELL_S - time.monotonic()
        try:
            await asyncio.wait_for(asyncio.shield(self._up), max(left, AGAIN_S))
        except asyncio.TimeoutError:
            raise RemoteError(
                f"kubernetes: {self._wait or 'its Pod does not start'} (within {within:g} s, see startup_timeout=)"
            ) from None

    def look_lost(self) -> None:
        """The cluster does not answer: it is gone, as far as anybody can tell, if it tells nothing itself either."""
        if self._guest is None or self._guest.silent_s() > self._guest.patience:
            self.settle(Ended(GONE))

    def join(self, guest: Guest, since: float) -> None:
        """It was another foreman's, until then."""
        self._guest, self.read_until = guest, since

    @property
    def runs(self) -> bool:
        """As far as the cluster has told."""
        return self._up.done() and not self._ended.done()

    # --- see Running ---

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """See Running. Both streams are one there."""
        log = Log(self.read_until)
        while True:
            is_last = self._ended.done()
            with contextlib.suppress(RemoteError):
                async for data in self._engine._read_log(self.id, log):
                    yield 1, data
            if is_last:
                return
            await asyncio.wait([self._ended], timeout=AGAIN_S)

    async def ended(self) -> Ended:
        """See Running."""
        return await asyncio.shield(self._ended)

    async def usage(self) -> Usage | None:
        """See Running."""
        guest = self._guest
        if guest is None or not await guest.ask_used() or guest.used is None:
            return None
        return replace(guest.used, cpu_ns=self.counted, how=SAMPLED) if self.counted > guest.used.cpu_ns else guest.used

    async def rename(self, name: str) -> None:
        """See Running. A Pod keeps its name."""

    async def signal(self, name: str) -> None:
        """See Running."""
        if self._guest is not None:
            self._guest.signal(name)

    async def remove(self) -> None:
        """See Running."""
        if self._guest is not None:
            self._engine._dismiss(self._guest)
        self._engine._pods.setdefault(self.id, self)
        self._engine._undeleted.add(self.id)
        if not await self._engine._delete(self.id):
            self._deleted.set()
        self._engine._undeleted.discard(self.id)
        with contextlib.suppress(asyncio.TimeoutError):  # a node that is away has it for as long
            await asyncio.wait_for(self._deleted.wait(), REMOVE_S)
        self._engine._pods.pop(self.id, None)


class Kubernetes(Docker):
    """The cluster that the current context of kubectl names, or that this process is in; and the engine of this
    machine, for images."""

    has_machines = True
    _api: AsyncClient
    _claims: Claims

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.registry = os.environ.get(engines.REGISTRY, "").removesuffix("/")
        self._own: dict[str, Any] = {**MANAGED, STATE: places.state_identity()}
        self._pods: dict[str, KubernetesPod] = {}
        self._following: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._kubelets: Kubelets | None = None
        self._seen: dict[str, float] = {}  # when each was there first
        self._undeleted: set[str] = set()  # since the cluster did not answer
        self._pushed: dict[str, asyncio.Future[str]] = {}  # by the image's id
        self._has_rights = False
        self._opening = asyncio.Lock()
        self._client: Client | None = None
        self._open_gate: Gate | None = None

    @classmethod
    async def connect(cls, host: str | None = None) -> Kubernetes:
        """See Docker."""
        engine = await super().connect(host)
        assert isinstance(engine, Kubernetes)
        try:
            await engine._enter()
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _enter(self) -> None:
        if not self.registry:
            raise ConfigError(
                "kubernetes: no registry of images is named, from which nodes could get them (use --registry HOST/PATH,"
                " or ADIT_REGISTRY)"
            )
        try:
            self._api = AsyncClient(KubeConfig.from_env().get(), os.environ.get("ADIT_NAMESPACE"))
        except (KubeConfigError, OSError, ValueError, AttributeError, AssertionError) as error:
            raise ConfigError(f"kubernetes: {error} (is KUBECONFIG right? kubectl config view)") from None
        self.name = f"{self._api.config.cluster.server} ({self._api.namespace})"
        self._claims = Claims(self._api, self._own)
        version = await self._list()
        self._following = asyncio.create_task(self._follow(version), name="pods")
        self._counting = asyncio.create_task(self._count(), name="kubelets")

    # --- Pods ---

    async def _list(self) -> str:
        """Looks at all; the version from which on changes are to be followed."""
        made = [pod for pod in self._pods.values() if pod.is_made]
        with told():
            every = self._api.list(Pod, labels=MANAGED)
            there = {str(pod.metadata.name): pod async for pod in every if pod.metadata is not None}
            version = str(every.resourceVersion)
        for name, mine in self._pods.items():
            if name in there:
                mine.take("MODIFIED", there[name])
            elif mine in made:
                mine.take("DELETED", Pod())
        self._seen = {name: self._seen.get(name, time.monotonic()) for name in there}
        for name in [name for name, pod in there.items() if name in self._undeleted or self._is_stale(name, pod)]:
            with contextlib.suppress(Error):
                await self._delete(name)
        return version

    def _is_stale(self, name: str, pod: Pod) -> bool:
        """Of a foreman that died: it has ended since, by itself; or it waits, and whoever waited for it would not any
        more."""
        if name in self._pods or pod.status is None or pod.metadata is None:
            return False
        if pod.status.phase == "Pending":
            within = (pod.metadata.annotations or {}).get(WITHIN, "")
            return within.isdecimal() and time.monotonic() - self._seen[name] > int(within) + STALE_S
        if pod.status.phase not in ("Succeeded", "Failed"):
            return False
        ends = [c.state.terminated for c in pod.status.containerStatuses or [] if c.state is not None]
        times = [end.finishedAt.timestamp() for end in ends if end is not None and end.finishedAt is not None]
        return time.time() - max(times, default=0.0) > STALE_S

    async def _follow(self, version: str) -> None:
        away: float | None = None
        has_told = False
        while True:
            try:
                watch = self._api.watch(Pod, labels=MANAGED, resource_version=version, server_timeout=int(RELIST_S))
                await asyncio.wait_for(self._hear_pods(watch), RELIST_S)
            except asyncio.TimeoutError:
                pass
            except Exception:  # a list is to follow, and tells if it is more than a moment's trouble
                await asyncio.sleep(AGAIN_S)
            try:
                version, away, has_told = await self._list(), None, False
            except Exception as error:
                away = away or time.monotonic()
                if time.monotonic() - away > GONE_S:
                    if not has_told:
                        has_told = True
                        print(f"adit: what becomes of Pods is not known: {error}", file=sys.stderr, flush=True)
                    for pod in list(self._pods.values()):
                        pod.look_lost()
                await asyncio.sleep(AGAIN_S)

    async def _hear_pods(self, watch: Any) -> None:
        async for event, pod in watch:
            mine = self._pods.get(str(pod.metadata.name))
            if mine is not None:
                mine.take(event, pod)

    async def _count(self) -> None:
        """Looks at what nodes have counted: a Pod that says less of itself does not know, or lies."""
        self._kubelets = Kubelets(self._api.config)
        while True:
            await asyncio.sleep(COUNT_S)
            for node in {pod.node for pod in self._pods.values()} - {""}:
                with contextlib.suppress(RemoteError), told():
                    for name, counted in (await self._kubelets.count(node, self._api.namespace)).items():
                        if name in self._pods:
                            self._pods[name].counted = counted

    async def _delete(self, name: str) -> bool:
        """False when it is not there."""
        try:
            with told():
                await self._api.delete(Pod, name, grace_period=GRACE_S)
        except RemoteError as error:
            if status_of(error) != NOT_FOUND:
                raise
            return False
        return True

    async def _read_log(self, name: str, log: Log) -> AsyncIterator[bytes]:
        """What a Pod writes, as it comes. lightkube would collect whole lines, and one may be without an end."""
        http: httpx2.AsyncClient = self._api._client._client
        path = f"api/v1/namespaces/{self._api.namespace}/pods/{name}/log"
        asked = {"follow": "true", "timestamps": "true", **({"sinceTime": log.since} if log.since else {})}
        log.begin()
        with told():
            async with http.stream("GET", path, params=asked, timeout=None) as response:
                if response.is_error:
                    return
                async for data in response.aiter_bytes():
                    if new := log.feed(data):
                        yield new

    async def start(self, container: Container) -> Running:
        """See Engine."""
        if not container.sealed:
            return await super().start(container)
        await self._check_rights()
        began = time.monotonic()
        image = await self._push(container.image)
        gate = await self._gate(None if container.held else container.labels[owner.LABEL])
        name = _to_name(container.name)
        assert container.limits is not None
        patience = HELD_S if container.held else PATIENCE_S
        guest = gate.admit(container.env["ADIT_CONTAINER"], container.places[0].source, container.limits, patience)
        pod = self._pods[name] = KubernetesPod(self, name, guest)
        making = asyncio.ensure_future(self._make(pod, _to_pod(name, image, container, self._own), gate))
        try:
            await asyncio.shield(making)
            await pod.up(began, container.within)
        except BaseException as error:
            if isinstance(error, ImageError):
                self._pushed.pop(container.image, None)  # the registry has lost it
            await asyncio.shield(self._unmake(pod, making))
            raise
        return pod

    async def _unmake(self, pod: KubernetesPod, making: asyncio.Future[None]) -> None:
        """Once there is all of it: what is not there yet cannot be removed."""
        await asyncio.wait([making])
        await pod.remove()

    async def _make(self, pod: KubernetesPod, of: dict[str, Any], gate: Gate) -> None:
        """The Secret belongs to the Pod, which waits for it, and goes with it: nothing may read it, or has to remove
        it."""
        assert pod._guest is not None
        settings = await gate.settings(pod._guest)
        with told():
            made = await self._api.create(cast("Pod", Pod.from_dict(of)))
            pod.is_made = True
            assert made.metadata is not None
            belongs = {"apiVersion": "v1", "kind": "Pod", "name": made.metadata.name, "uid": made.metadata.uid}
            secret = {
                "metadata": {"name": made.metadata.name, "labels": self._own, "ownerReferences": [belongs]},
                "stringData": {"settings": json.dumps(settings)},
                "immutable": True,
            }
            await self._api.create(cast("Secret", Secret.from_dict(secret)))

    async def _push(self, image: str) -> str:
        """Its name for the nodes: by digest, so that it is the very same."""
        pushing = self._pushed.get(image)
        if pushing is None or (pushing.done() and (pushing.cancelled() or pushing.exception() is not None)):
            short = image.removeprefix("sha256:")[:12]
            pushing = asyncio.ensure_future(self.push(image, f"{self.registry}/adit", short))
            self._pushed[image] = pushing
        return f"{self.registry}/adit@{await asyncio.shield(pushing)}"

    async def _gate(self, returning: str | None = None) -> Gate:
        """``returning`` is who the foreman is, if it comes back."""
        async with self._opening:
            if self._open_gate is None:
                from ..foreman.ways import ways

                client: Client = await asyncio.to_thread(Client)
                try:
                    found = ways(await asyncio.to_thread(client.narrow))
                    here = [way for way in found if not way.port or way.host in ("localhost", "127.0.0.1", "::1")]
                    if client.ca_file is not None or here:
                        raise ConfigError(
                            "kubernetes: Pods cannot reach a relay of this machine alone (run one that they reach, see "
                            "README.md, and adit login)"
                        )
                    gate = Gate(client, found, returning and _gate_path(returning))
                    await gate.open()
                except BaseException:
                    client.close()
                    raise
                self._client, self._open_gate = client, gate
            return self._open_gate

    def _dismiss(self, guest: Guest) -> None:
        if self._open_gate is not None:
            self._open_gate.dismiss(guest)

    async def adopt(self, running: Running, since: float, folder: str) -> bool:
        """See Engine. It has to come to the gate that it was made for, which is there again."""
        if not isinstance(running, KubernetesPod):
            return await super().adopt(running, since, folder)
        self._pods[running.id] = running  # before it is looked at, so that its end is not missed
        try:
            if await self._know(running, since, folder):
                return True
        except BaseException:
            self._pods.pop(running.id, None)
            raise
        self._pods.pop(running.id, None)
        return False

    async def _know(self, pod: KubernetesPod, since: float, folder: str) -> bool:
        """Whether it still runs, and has come."""
        found = await patiently(lambda: self._list_own({"metadata.name": pod.id}))
        if not found or found[0].metadata is None or found[0].spec is None:
            return False
        meta, limits = found[0].metadata, found[0].spec.containers[0].resources
        marks, began = meta.annotations or {}, meta.creationTimestamp
        if not {owner.LABEL, worker.LABEL} <= marks.keys() or limits is None or began is None:
            return False
        age = max(0.0, time.time() - began.timestamp())
        gate = await self._gate(marks[owner.LABEL])
        guest = gate.admit(marks[worker.LABEL], folder, _to_resources(limits.limits or {}), PATIENCE_S, age)
        os.makedirs(folder, mode=0o755, exist_ok=True)  # a Pod of the foreman's own may have been another one's then
        pod.join(guest, since)
        pod.take("MODIFIED", found[0])
        if pod.runs and await guest.comes(COME_S):
            return True
        gate.dismiss(guest)
        return False

    async def leftovers(self, label: str) -> list[tuple[Running, dict[str, str]]]:
        """See Engine. Only those of this state folder's foremen: of others nobody here knows whether they live."""
        found = await super().leftovers(label)
        for pod in await patiently(self._list_own):
            marks = (pod.metadata.annotations if pod.metadata is not None else None) or {}
            if label in marks and pod.metadata is not None:
                name = str(pod.metadata.name)
                found.append((self._pods.get(name) or KubernetesPod(self, name), dict(marks)))
        return found

    async def _list_own(self, fields: dict[str, Any] | None = None) -> list[Pod]:
        """Of this state folder's foremen."""
        with told():
            return [pod async for pod in self._api.list(Pod, labels=self._own, fields=fields)]

    # --- what it is ---

    async def resources(self) -> Resources:
        """See Engine. Whoever may only look at one namespace does not know what nodes have; the scheduler does."""
        return Resources(float(1 << 20), 1 << 60)

    async def shares_groups(self) -> bool:
        """See Engine."""
        return False

    async def gives_gpus(self) -> bool:
        """See Engine."""
        return True

    async def version(self) -> str:
        """Of the cluster."""
        with told():
            response = await self._api._client._client.get("version")
            response.raise_for_status()
        return str(response.json().get("gitVersion"))

    async def lacks_rights(self) -> list[str]:
        """What this account may not do there, of all that is needed."""
        every = [(verb, what) for what, verbs in RIGHTS.items() for verb in verbs]
        may = await asyncio.gather(*(self._may(*one) for one in every))
        return [" ".join(one) for one, allowed in zip(every, may) if not allowed]

    async def _may(self, verb: str, what: str) -> bool:
        resource, _, subresource = what.partition("/")
        about = {"namespace": self._api.namespace, "verb": verb, "resource": resource, "subresource": subresource}
        asked = SelfSubjectAccessReview.from_dict({"spec": {"resourceAttributes": about}})
        with told():
            said = await self._api.create(cast("SelfSubjectAccessReview", asked))
        return said.status is not None and said.status.allowed

    async def _check_rights(self) -> None:
        """Once, before the first Pod: some are missed late, or never, and the user does not see why it is slow."""
        if not self._has_rights and (lacks := await self.lacks_rights()):
            raise ConfigError(
                f"kubernetes: this account may not {', '.join(lacks)} in the namespace {self._api.namespace} (kubectl "
                "apply -f deploy/kubernetes/functions.yaml, and use its ServiceAccount)"
            )
        self._has_rights = True

    async def refuses(self) -> str:
        """Why the cluster would not take a Pod like those of functions; empty when it would."""
        some = Resources(0.1, 128 << 20)
        like = Container(image="", command=[], name="adit-doctor", labels={}, limits=some, requests=some, user=20_000)
        pod = Pod.from_dict(_to_pod("adit-doctor", f"{self.registry}/adit", like, self._own))
        try:
            with told():
                await self._api.create(cast("Pod", pod), dry_run=True)
        except RemoteError as error:
            return str(error).removeprefix("kubernetes: ")
        return ""

    async def lacks_relay(self) -> str:
        """Why Pods would not reach the foreman; empty when they may."""
        try:
            await self._gate()
        except Error as error:
            return str(error).removeprefix("kubernetes: ")
        return ""

    async def has_volume(self, name: str) -> bool:
        """See Engine."""
        return await self._claims.has(name)

    async def make_volume(self, name: str, labels: dict[str, str]) -> None:
        """See Engine."""
        await self._claims.make(name, labels)

    async def remove_volume(self, name: str) -> None:
        """See Engine."""
        await self._claims.remove(name)

    async def leftover_volumes(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """See Engine. Those of the engine that makes images are none of ours."""
        return await self._claims.marked(label)

    async def close(self) -> None:
        """See Engine."""
        await tasks.end(self._following, self._counting)
        if self._kubelets is not None:
            await self._kubelets.close()
        if self._open_gate is not None:
            await self._open_gate.close()
        if self._client is not None:
            self._client.close()
        if hasattr(self, "_api"):
            await self._api.close()
        await super().close()


def _gate_path(returning: str) -> str:
    """Where what one foreman's gate has is kept."""
    folder = places.state_path("gates")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, hashlib.sha256(returning.encode()).hexdigest()[:16])


def _to_name(name: str) -> str:
    return re.sub("[^a-z0-9-]", "-", name.lower())[:NAME_MAX].strip("-")


def _to_amounts(of: Resources) -> dict[str, str]:
    return {"cpu": f"{max(1, round(of.cpus * 1000))}m", "memory": str(of.memory_bytes)}


def _to_resources(amounts: Mapping[str, str]) -> Resources:
    """What _to_amounts() was given."""
    cpus, memory = (parse_quantity(amounts.get(what)) or 0 for what in ("cpu", "memory"))
    return Resources(float(cpus), int(memory))


def _to_pod(name: str, image: str, c: Container, labels: dict[str, Any]) -> dict[str, Any]:
    assert c.limits is not None
    limits, requests = _to_amounts(c.limits), _to_amounts(c.requests or c.limits)
    spec: dict[str, Any] = {}
    if c.gpus:
        limits[GPU] = requests[GPU] = str(len(c.gpus))
        if c.gpus[0].name != ANY_GPU:
            spec["nodeSelector"] = {GPU_LABEL: c.gpus[0].name}
    if runtime := os.environ.get("ADIT_RUNTIME"):
        spec["runtimeClassName"] = runtime
    env = dict(c.env)
    if dialled := os.environ.get("ADIT_RELAY"):
        env.setdefault("ADIT_RELAY", dialled)
    claims = {f"volume-{n}": (place.target, claim_name(place.name)) for n, place in enumerate(c.volumes)}
    scratch = {f"scratch-{n}": (path, size) for n, (path, size) in enumerate({**SCRATCH, "/run/adit": 1 << 20}.items())}
    spec |= {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": c.user,
            "runAsGroup": c.user,
            "fsGroup": c.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "function",
                "image": image,
                "command": ["python3", "-u", "-m", "adit.functions.pod", *c.command],
                "env": [{"name": k, "value": v.replace("$", "$$")} for k, v in env.items()],
                "resources": {"limits": limits, "requests": requests},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    *({"name": volume, "mountPath": path} for volume, (path, _) in {**scratch, **claims}.items()),
                    {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
                ],
            }
        ],
        "volumes": [
            *(
                {"name": volume, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
                for volume, (_, size) in scratch.items()
            ),
            *({"name": at, "persistentVolumeClaim": {"claimName": claim}} for at, (_, claim) in claims.items()),
            {"name": "settings", "secret": {"secretName": name, "defaultMode": 0o440}},
        ],
    }
    return {
        "metadata": {
            "name": name,
            "labels": {**labels, "adit.network": "any" if c.network else "relay"},
            "annotations": {**c.labels, WITHIN: str(math.ceil(c.within))},
        },
        "spec": spec,
    }
