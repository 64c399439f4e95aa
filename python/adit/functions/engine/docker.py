"""Docker's Engine API, which podman's service speaks as well. The hard thing: a container that ends is removed by the
engine itself, so that nothing stays when the foreman dies; how it ended is then known from the stream of events only,
which may break, and is completed by looking what still runs."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import aiohttp

from ...exception import ConfigError, ImageError, RemoteError
from . import GONE, About, Build, Container, Ended, Gpu, Resources, Running, Stored, Usage, registries, tasks
from .find import find_host, how_to_use
from .groups import Hierarchies
from .patience import UnansweredError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import IO

RELIST_S = 30.0
REMOVE_S = 10.0
ANSWER_S = 60.0  # of the engine, unless it is to make an image
LOOK_AGAIN_S = 0.2
GONE_S = 10.0  # after which what ran on it has ended, as far as anybody can tell
LATE_S = 0.2  # that it was memory may be told after the death
_KILLED = 137
SCRATCH = {"/tmp": 1 << 30, "/home/adit": 4 << 30}  # what a sealed container may write, in bytes; counts as its memory
PIDS = 512
CDI_KIND = "nvidia.com/gpu="
_LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "processors", "PidsLimit": "processes"}  # in what it says of itself
PULL_S = 15.0
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")  # where podman looks
OOM_SCORE = 500  # when the machine's memory ends, a function's container ends before anything else of it
_OVER = ("exited", "stopped", "removing", "dead")  # as Docker's and podman's lists have it
_FRAME = 8
_OK, _BAD, _NOT_FOUND, _CONFLICT = 200, 400, 404, 409


def _tls() -> ssl.SSLContext:
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    context = ssl.create_default_context(cafile=os.path.join(folder, "ca.pem"))
    context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
    return context


def _connector(host: str) -> tuple[aiohttp.BaseConnector, str]:
    at = urllib.parse.urlsplit(host)
    if at.scheme == "unix":
        return aiohttp.UnixConnector(at.path, limit=0), "http://engine"
    if at.scheme in ("tcp", "http", "https"):
        if at.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            return aiohttp.TCPConnector(limit=0, ssl=_tls()), f"https://{at.netloc}"
        return aiohttp.TCPConnector(limit=0), f"http://{at.netloc}"
    raise ConfigError(f"DOCKER_HOST: {host}: adit reaches engines by unix:// and tcp:// only (use one of these)")


class _Refused(RemoteError):
    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class _Missing(_Refused, ImageError):
    pass


class DockerContainer:
    """A container of this engine."""

    def __init__(self, engine: Docker, identity: str) -> None:
        self._engine, self.id = engine, identity
        self._attached: aiohttp.ClientResponse | None = None
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._group: str | None = None

    async def attach(self, held: bool) -> None:
        """Before it starts, so that nothing is missed."""
        self._attached = await self._engine._open(
            "POST", f"containers/{self.id}/attach", stream=1, stdin=int(held), stdout=1, stderr=1
        )

    async def follow(self, since: float) -> None:
        """One that runs: what it wrote meanwhile is in the engine's log."""
        path = f"containers/{self.id}/logs"
        self._attached = await self._engine._open("GET", path, follow=1, stdout=1, stderr=1, since=f"{since:.6f}")

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """See Running."""
        if self._attached is None:
            return
        content = self._attached.content
        with contextlib.suppress(aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await content.readexactly(_FRAME)
                left = int.from_bytes(head[4:], "big")
                while left > 0:
                    data = await content.readexactly(min(left, 1 << 16))
                    left -= len(data)
                    yield head[0], data

    async def ended(self) -> Ended:
        """See Running."""
        return await asyncio.shield(self._ended)

    def settle(self, ended: Ended) -> None:
        """It has ended."""
        if not self._ended.done():
            self._ended.set_result(ended)

    async def find_group(self) -> None:
        """Its control group, if that is on this machine: there what it uses can be read without asking the engine."""
        hierarchies = self._engine._hierarchies
        if hierarchies is None:
            return
        found = await self._engine._ask("GET", f"containers/{self.id}/json", may_fail=(_NOT_FOUND,))
        group = hierarchies.of_process(found["State"]["Pid"]) if found else None
        if group is not None and self.id in group and hierarchies.usage(group) is not None:
            self._group = group

    async def usage(self) -> Usage | None:
        """See Running."""
        if self._group is not None and self._engine._hierarchies is not None:
            return self._engine._hierarchies.usage(self._group)
        path = f"containers/{self.id}/stats?stream=false&one-shot=true"
        found = await self._engine._ask("GET", path, may_fail=(_NOT_FOUND, _CONFLICT))
        memory = (found or {}).get("memory_stats") or {}
        if not memory.get("usage"):  # it has ended: all is 0
            return None
        detail = memory.get("stats") or {}
        unused = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        return Usage(int(found["cpu_stats"]["cpu_usage"]["total_usage"]), max(0, int(memory["usage"]) - int(unused)))

    async def rename(self, name: str) -> None:
        """See Running."""
        await self._engine._ask("POST", f"containers/{self.id}/rename", may_fail=(_NOT_FOUND, _CONFLICT), name=name)

    async def signal(self, name: str) -> None:
        """See Running."""
        await self._engine._ask("POST", f"containers/{self.id}/kill", may_fail=(_NOT_FOUND, _CONFLICT), signal=name)

    async def remove(self) -> None:
        """See Running."""
        self._engine._running.pop(self.id, None)
        if self._attached is not None:
            self._attached.close()
        self._engine._unremoved.add(self.id)
        await self._engine._ask("DELETE", f"containers/{self.id}", may_fail=(_NOT_FOUND, _CONFLICT), force=1, v=1)
        self._engine._unremoved.discard(self.id)


class Docker:
    """The engine."""

    has_machines = False

    def __init__(self, host: str) -> None:
        self.name = host
        self._connector, self._base = _connector(host)
        self._http = aiohttp.ClientSession(
            connector=self._connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 16
        )
        self._running: dict[str, DockerContainer] = {}
        self._unremoved: set[str] = set()  # since the engine did not answer
        self._short_of_memory: set[str] = set()
        self._runtime: str | None = None
        self._data_folder: str | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._hierarchies = Hierarchies.here() if host.startswith("unix:") else None

    @classmethod
    async def connect(cls, host: str | None = None) -> Docker:
        """The engine at that address, or this user's."""
        engine = cls(host or find_host())
        try:
            await engine._ask("GET", "_ping")
            engine._runtime = await engine._find_runtime()
        except BaseException:
            await engine.close()
            raise
        engine._watcher = asyncio.create_task(engine._watch())
        return engine

    async def _find_runtime(self) -> str | None:
        """What runs functions' containers, where that is not the engine's own choice."""
        name = os.environ.get("ADIT_RUNTIME")
        there = sorted((await self._ask("GET", "info")).get("Runtimes") or ()) if name else []
        if name and name not in there:
            raise ConfigError(
                f"ADIT_RUNTIME: the engine has no runtime {name} (it has {', '.join(there)}; docs/functions.md has "
                "how to add one)"
            )
        return name

    # --- requests ---

    async def _open(
        self,
        method: str,
        path: str,
        body: Any = None,
        data: bytes | IO[bytes] | None = None,
        registry: str | None = None,
        **query: Any,
    ) -> Any:
        headers = {"Content-Type": "application/x-tar"} if data is not None else {}
        if registry is not None:
            headers["X-Registry-Auth"] = await asyncio.to_thread(registries.login, registry)
        try:
            response = await self._http.request(
                method,
                f"{self._base}/{path}",
                params={k: str(v) for k, v in query.items()},
                json=body,
                data=data,
                headers=headers,
            )
        except (aiohttp.ClientError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            text = f"engine {self.name}: {why} ({how_to_use(self.name)}; adit doctor tells more)"
            raise UnansweredError(text) from None
        if response.status < _BAD:
            return response
        text = await response.text()
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["message"]
        raise (_Missing if response.status == _NOT_FOUND else _Refused)(f"engine: {text.strip()}", response.status)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        data: bytes | None = None,
        may_fail: tuple[int, ...] = (),
        within: float | None = ANSWER_S,
        **q: Any,
    ) -> Any:
        async def ask() -> bytes:
            async with await self._open(method, path, body, data, **q) as response:
                return bytes(await response.read())

        try:
            raw = await asyncio.wait_for(ask(), within)
        except asyncio.TimeoutError:
            raise RemoteError(
                f"engine {self.name}: it does not answer within {within:g} s (is it stopped, or overloaded?)"
            ) from None
        except _Refused as error:
            if error.status in may_fail:
                return None
            raise
        try:
            return json.loads(raw)
        except ValueError:
            return None

    # --- how containers end ---

    async def _watch(self) -> None:
        away: float | None = None
        events = ["die", "died", "oom", "destroy"]  # podman filters by its own word for it, and then tells Docker's
        filters = json.dumps({"type": ["container"], "event": events})
        while True:
            try:
                async with await asyncio.wait_for(self._open("GET", "events", filters=filters), ANSWER_S) as response:
                    away = None
                    await self._relist()
                    await self._remove_the_rest()
                    await self._hear(response)
            except RemoteError:
                away = away or time.monotonic()
                if time.monotonic() - away > GONE_S:
                    for container in list(self._running.values()):
                        container.settle(Ended(GONE))
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError):
                pass  # it is there, and broke off or is slow: the list tells what has been missed
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _remove_the_rest(self) -> None:
        for identity in list(self._unremoved):
            await DockerContainer(self, identity).remove()

    async def _hear(self, response: aiohttp.ClientResponse) -> None:
        line: asyncio.Future[bytes] | None = None
        try:
            while True:
                line = line or asyncio.ensure_future(response.content.readline())
                done, _ = await asyncio.wait({line}, timeout=RELIST_S)
                if not done:
                    await self._relist()
                    continue
                text, line = line.result(), None
                if not text:
                    return
                self._take_event(json.loads(text))
        finally:
            if line is not None:
                line.cancel()

    def _take_event(self, event: dict[str, Any]) -> None:
        actor = event.get("Actor") or {}
        identity, action = str(actor.get("ID", event.get("id"))), event.get("Action", event.get("status"))
        if action == "oom":
            self._short_of_memory.add(identity)
            return
        told = actor.get("Attributes") or {}
        status = int(told.get("exitCode", told.get("containerExitCode", GONE)))
        late = 0 if status != _KILLED or identity in self._short_of_memory else LATE_S
        asyncio.get_running_loop().call_later(late, self._end, identity, status)

    def _end(self, identity: str, status: int) -> None:
        short = identity in self._short_of_memory
        self._short_of_memory.discard(identity)
        container = self._running.get(identity)
        if container is not None:
            container.settle(Ended(status, short and status != 0))

    async def _relist(self) -> None:
        mine = list(self._running.values())
        if not mine:
            return
        found = await self._ask("GET", "containers/json", all=1)  # also those that are about to start
        there = {c["Id"] for c in found if c["State"] not in _OVER}
        for container in mine:
            if container.id not in there:
                container.settle(Ended(GONE))

    # --- containers ---

    async def resources(self) -> Resources:
        """See Engine."""
        info = await self._ask("GET", "info")
        return Resources(float(info["NCPU"]), int(info["MemTotal"]))

    async def shares_groups(self) -> bool:
        """See Engine."""
        if self._hierarchies is None:
            return False
        return bool((await self._ask("GET", "info")).get("CgroupDriver") == "cgroupfs")

    async def about(self) -> About:
        """See Engine."""
        version, info = await self._ask("GET", "version"), await self._ask("GET", "info")
        product = "podman" if await self._is_podman() else "Docker"
        return About(
            product=f"{product} {version.get('Version', '?')}",
            storage=str(info.get("Driver")),
            folder=str(info.get("DockerRootDir")),
            cgroups=str(info.get("CgroupVersion") or "1"),
            runtime=str(info.get("DefaultRuntime") or "runc"),
            runtimes=sorted(info.get("Runtimes") or {}),
            lacks=[f"limits of {word}" for name, word in _LIMITS.items() if info.get(name) is False],
        )

    async def gives_gpus(self) -> bool:
        """See Engine."""
        return await self._way_of_gpus() is not None

    async def data_folder(self) -> str | None:
        """See Engine."""
        if self._data_folder is None:
            self._data_folder = str((await self._ask("GET", "info")).get("DockerRootDir") or "")
        return self._data_folder or None

    async def _way_of_gpus(self) -> str | None:
        """By NVIDIA's own runtime or by CDI, the container device interface; None when neither is set up."""
        info = await self._ask("GET", "info")
        if "nvidia" in (info.get("Runtimes") or {}):
            return "nvidia"
        devices = [d.get("ID", "") for d in info.get("DiscoveredDevices") or [] if d.get("Source") == "cdi"]
        if any(device.startswith(CDI_KIND) for device in devices):
            return "cdi"
        folders = info.get("CDISpecDirs") or (_CDI_FOLDERS if await self._is_podman() else ())
        return "cdi" if any(glob.glob(os.path.join(folder, "*nvidia*")) for folder in folders) else None

    async def _is_podman(self) -> bool:
        version = await self._ask("GET", "version")
        return any("podman" in str(part.get("Name", "")).lower() for part in version.get("Components") or [])

    async def _create(self, body: dict[str, Any], **query: Any) -> DockerContainer:
        """Whoever is cancelled meanwhile does not know what it is called: it is removed as soon as it is there."""

        async def create() -> DockerContainer:
            return DockerContainer(self, (await self._ask("POST", "containers/create", body, **query))["Id"])

        async def undo() -> None:
            with contextlib.suppress(RemoteError):
                await (await creating).remove()

        creating = asyncio.create_task(create())
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.create_task(undo()))
            raise

    async def start(self, container: Container) -> Running:
        """See Engine."""
        asked = _to_create(container, self._runtime)
        if container.gpus:
            asked["HostConfig"]["DeviceRequests"] = [_to_request(container.gpus, await self._way_of_gpus())]
        running = await self._create(asked, name=container.name)
        try:
            await running.attach(container.held)
            self._running[running.id] = running
            await self._ask("POST", f"containers/{running.id}/start")
            if container.parent is None:  # else whoever named it looks there
                await running.find_group()
        except BaseException:
            await asyncio.shield(running.remove())
            raise
        return running

    async def adopt(self, running: Running, since: float, folder: str) -> bool:
        """See Engine."""
        assert isinstance(running, DockerContainer)
        self._running[running.id] = running  # before it is looked at, so that its end is not missed
        try:
            found = await self._ask("GET", f"containers/{running.id}/json", may_fail=(_NOT_FOUND,))
            if found is not None and found["State"]["Running"]:
                await running.follow(since)
                await running.find_group()
                return True
        except BaseException:
            self._running.pop(running.id, None)
            raise
        self._running.pop(running.id, None)
        return False

    async def leftovers(self, label: str) -> list[tuple[Running, dict[str, str]]]:
        """See Engine."""
        found = await self._ask("GET", "containers/json", all=1, filters=json.dumps({"label": [label]}))
        return [(DockerContainer(self, c["Id"]), c["Labels"]) for c in found]

    # --- volumes ---

    async def has_volume(self, name: str) -> bool:
        """See Engine."""
        return await self._ask("GET", f"volumes/{name}", may_fail=(_NOT_FOUND,)) is not None

    async def make_volume(self, name: str, labels: dict[str, str]) -> None:
        """See Engine."""
        await self._ask("POST", "volumes/create", {"Name": name, "Labels": labels})

    async def remove_volume(self, name: str) -> None:
        """See Engine."""
        end = asyncio.get_running_loop().time() + REMOVE_S
        while True:
            try:
                await self._ask("DELETE", f"volumes/{name}", may_fail=(_NOT_FOUND,))
                return
            except _Refused as error:  # a container that has it is about to be gone
                if error.status != _CONFLICT or asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(0.05)

    async def leftover_volumes(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """See Engine."""
        found = await self._ask("GET", "volumes", filters=json.dumps({"label": [label]}))
        return [(volume["Name"], volume.get("Labels") or {}) for volume in found.get("Volumes") or []]

    # --- images ---

    async def find_image(self, name: str) -> str | None:
        """See Engine."""
        found = await self._ask("GET", f"images/{name}/json", may_fail=(_NOT_FOUND,))
        return str(found["Id"]) if found else None

    async def can_pull(self, name: str) -> str | None:
        """See Engine."""
        try:
            await asyncio.wait_for(self._ask("GET", f"distribution/{name}/json"), PULL_S)
        except _Refused as error:
            return str(error).removeprefix("engine: ")
        except asyncio.TimeoutError:
            return f"its registry has not answered within {PULL_S:.0f} s"
        return None

    async def stored(self, label: str) -> list[Stored]:
        """See Engine."""
        filters = json.dumps({"label": [label]})
        every = {i["Id"]: int(i["Size"]) for i in await self._ask("GET", "images/json", all=1)}
        return [
            Stored(
                id=i["Id"],
                tags=[t.removeprefix("localhost/") for t in i["RepoTags"] or []],
                labels=i["Labels"] or {},
                created=float(i["Created"]),
                own_bytes=max(0, int(i["Size"]) - every.get(i.get("ParentId") or "", 0)),
            )
            for i in await self._ask("GET", "images/json", all=1, filters=filters)
        ]

    async def drop(self, identity: str) -> bool:
        """See Engine."""
        try:
            await self._ask("DELETE", f"images/{identity}", may_fail=(_NOT_FOUND,), noprune=1)
        except _Refused as error:
            if error.status == _CONFLICT:
                return False
            raise
        return True

    async def pull(self, name: str) -> str:
        """See Engine."""
        repository, _, tag = name.rpartition("@" if "@" in name else ":")
        if not repository or "/" in tag:
            repository, tag = name, "latest"
        hint = "is the name right, and its registry within reach? adit doctor tells how to do without one"
        try:
            async with await self._open("POST", "images/create", fromImage=repository, tag=tag) as response:
                async for line in response.content:
                    said = json.loads(line)
                    if "error" in said:
                        raise ImageError(f"image {name}: {said['error']} ({hint})")
        except _Refused as error:
            raise ImageError(f"image {name}: {str(error).removeprefix('engine: ')} ({hint})") from None
        found = await self.find_image(name)
        if found is None:
            raise ImageError(f"image {name}: it was pulled and is not there")
        return found

    async def commit(self, running: Running, tag: str, changes: list[str], labels: dict[str, str]) -> str:
        """See Engine."""
        repository, _, version = tag.rpartition(":")
        lines = [*changes, *(f"LABEL {k}={_quoted(v)}" for k, v in labels.items())]
        query = urllib.parse.urlencode(
            [("container", running.id), ("repo", repository), ("tag", version), *(("changes", line) for line in lines)]
        )
        made = await self._ask("POST", f"commit?{query}", {}, within=None)
        return str(made["Id"])

    async def derive(
        self,
        image: str,
        tag: str,
        changes: list[str],
        labels: dict[str, str],
        owner: dict[str, str],
        archive: bytes | None = None,
    ) -> str:
        """See Engine."""
        idle = await self._create({"Image": image, "Cmd": ["true"], "Entrypoint": [], "Labels": owner})
        try:
            if archive is not None:
                await self._ask("PUT", f"containers/{idle.id}/archive?path=/", data=archive, within=None)
            return await self.commit(idle, tag, changes, labels)
        finally:
            await asyncio.shield(idle.remove())

    async def build(self, build: Build, tell: Callable[[str], None]) -> str:
        """See Engine."""
        query: dict[str, Any] = {
            "dockerfile": build.dockerfile,
            "t": build.tag,
            "buildargs": json.dumps(build.args),
            "labels": json.dumps(build.labels),
            "rm": 1,
            "forcerm": 1,
            "nocache": int(build.fresh),
            "cgroupparent": build.parent or "",
        }
        async with await self._open("POST", "build", data=build.context, **query) as response:
            async for line in response.content:
                said = json.loads(line)
                for text in str(said.get("stream", "")).splitlines():
                    tell(text)
                if "error" in said:
                    raise ImageError(str(said["error"]).strip())
        found = await self.find_image(build.tag)
        if found is None:
            raise ImageError("it was built and is not there")
        return found

    async def push(self, image: str, repository: str, tag: str) -> str:
        """Has a registry keep an image under a name; its digest there, by which it is the same for ever."""
        await self._ask("POST", f"images/{image}/tag", repo=repository, tag=tag)
        name = urllib.parse.quote(repository, safe="/:")
        digest = ""
        try:
            async with await self._open("POST", f"images/{name}/push", registry=repository, tag=tag) as response:
                async for line in response.content:
                    said = json.loads(line)
                    if "error" in said:
                        raise ImageError(f"registry: {repository}: {said['error']} ({registries.HINT})")
                    digest = (said.get("aux") or {}).get("Digest") or digest
        except _Refused as error:
            text = str(error).removeprefix("engine: ")
            raise ImageError(f"registry: {repository}: {text} ({registries.HINT})") from None
        if not digest:  # podman does not tell
            found = await self._ask("GET", f"images/{image}/json")
            named = (d.rpartition("@") for d in found.get("RepoDigests") or [])
            digest = next((d for name, _, d in named if name == repository), "")
        if not digest:
            raise ImageError(f"registry: {repository}: it was pushed, and the engine tells no digest")
        return digest

    async def close(self) -> None:
        """See Engine."""
        await tasks.end(self._watcher)
        await self._http.close()


def _quoted(text: str) -> str:
    """For a line of a Dockerfile, in which a dollar would begin a variable."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


def _to_request(gpus: list[Gpu], way: str | None) -> dict[str, Any]:
    if way == "cdi":
        return {"Driver": "cdi", "DeviceIDs": [f"{CDI_KIND}{gpu.number}" for gpu in gpus]}
    capabilities = [["gpu", "compute", "utility"]]
    return {"Driver": "nvidia", "DeviceIDs": [gpu.uuid for gpu in gpus], "Capabilities": capabilities}


def _to_create(c: Container, runtime: str | None) -> dict[str, Any]:
    host: dict[str, Any] = {
        "AutoRemove": c.sealed,
        "NetworkMode": "default" if c.network else "none",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
        "Mounts": [
            *({"Type": "bind", "Source": p.source, "Target": p.target, "ReadOnly": p.read_only} for p in c.places),
            *({"Type": "volume", "Source": v.name, "Target": v.target} for v in c.volumes),
        ],
    }
    if c.limits is not None:
        host |= {
            "Memory": c.limits.memory_bytes,
            "MemorySwap": c.limits.memory_bytes,  # none beyond it
            "NanoCpus": int(c.limits.cpus * 1e9),
            "PidsLimit": PIDS,
        }
    if c.parent is not None:
        host["CgroupParent"] = c.parent
    if c.sealed:
        host |= {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Tmpfs": {p: f"rw,nosuid,nodev,exec,mode=1777,size={n}" for p, n in SCRATCH.items()},
            "ShmSize": 64 << 20,
            "OomScoreAdj": OOM_SCORE,
            "Runtime": runtime or "",
        }
    return {
        "Image": c.image,
        "Cmd": c.command,
        "Entrypoint": [],
        "User": f"{c.user}:{c.user}",
        "Env": [f"{k}={v}" for k, v in c.env.items()],
        "Labels": c.labels,
        "OpenStdin": c.held,
        "StdinOnce": c.held,
        "AttachStdin": c.held,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
