"""What the engine makes of a cluster that answers late, wrongly or not at all; it is none that runs anything."""

import asyncio
import contextlib
import re
import tempfile
import time
from types import SimpleNamespace

import pytest
from adit.exception import ConfigError, RemoteError
from adit.functions import pod as pod_process
from adit.functions.engine import GONE, Container, Place, Resources, claims, kubernetes, patience, tasks
from adit.functions.engine.gate import Gate
from adit.functions.engine.kubernetes import Kubernetes
from lightkube.core.exceptions import ConfigError as LoginError
from lightkube.resources.core_v1 import Pod

LIKE = Container(
    "sha256:1",
    ["true"],
    "adit-f-1",
    {},
    [Place("/nowhere", "/run/adit")],
    limits=Resources(1.0, 1 << 20),
    env={"ADIT_CONTAINER": "a1"},
    within=20.0,
)


class Listed:
    """What a list gives, and from when on changes are to be followed."""

    resourceVersion = "1"

    def __init__(self, pods):
        self._pods = pods

    async def __aiter__(self):
        for pod in self._pods:
            yield pod


class Api:
    """A cluster's."""

    namespace = "adit"

    def __init__(self):
        self.pods, self.asked, self.on_create, self.error = {}, [], {}, None

    async def create(self, made, **_):
        kind = type(made).__name__
        before, after = self.on_create.get(kind, (None, None))
        if before is not None:
            await before()
        if kind == "Pod":
            made.metadata.uid = "1"
            self.pods[made.metadata.name] = made
        if after is not None:
            await after()
        self.asked.append(f"create {kind}")
        return made

    def list(self, kind, labels, fields=None):
        if self.error is not None:
            raise self.error
        chosen = [pod for pod in self.pods.values() if labels.items() <= pod.metadata.labels.items()]
        return Listed([pod for pod in chosen if fields in (None, {"metadata.name": pod.metadata.name})])

    async def watch(self, *_, **__):
        raise self.error or ValueError("cut")
        yield

    async def delete(self, kind, name, **_):
        self.asked.append(f"delete {name}")
        if name == "refused":
            raise LoginError("no")
        self.pods.pop(name, None)

    async def close(self):
        pass


class Guest:
    patience = kubernetes.HELD_S

    def __init__(self):
        self.silent = 0.0

    def silent_s(self):
        return self.silent


@pytest.fixture
def at_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(kubernetes, "AGAIN_S", 0.0)
    monkeypatch.setattr(kubernetes, "REMOVE_S", 0.0)

    def run(work):
        async def live():
            engine = Kubernetes("unix:///nowhere")
            engine._api, engine._has_rights = Api(), True

            async def image(_):
                return "registry/adit@sha256:1"

            async def gate(*_):
                return SimpleNamespace(admit=lambda *_: Guest(), settings=settings, dismiss=lambda _: None)

            async def settings(_):
                return {}

            monkeypatch.setattr(engine, "_push", image)
            monkeypatch.setattr(engine, "_gate", gate)
            await work(engine, engine._api)

        asyncio.run(asyncio.wait_for(live(), 20))

    return run


def pod(name, phase, labels=None, **about):
    meta = {"name": name, "labels": {**kubernetes.MANAGED, **(labels or {})}, **about}
    return Pod.from_dict({"metadata": meta, "status": {"phase": phase}})


def test_a_list_that_was_asked_for_before_a_pod_was_there_does_not_end_it(at_engine):
    async def work(engine, api):
        asked, go = asyncio.Event(), asyncio.Event()
        every = api.list

        class Late(Listed):
            async def __aiter__(self):
                asked.set()
                await go.wait()
                return
                yield

        api.list = lambda *_, **__: Late([])

        looking = None

        async def before():
            nonlocal looking
            looking = asyncio.create_task(engine._list())
            await asked.wait()

        api.on_create["Pod"] = before, None
        starting = asyncio.create_task(engine.start(LIKE))
        while "create Secret" not in api.asked:
            await asyncio.sleep(0)
        go.set()
        await looking
        [mine] = engine._pods.values()
        assert not mine._ended.done()
        api.list = every
        api.pods.clear()
        await engine._list()
        assert (await starting)._ended.result().status == GONE

    at_engine(work)


def test_a_start_that_is_given_up_leaves_nothing_whenever_that_is(at_engine):
    async def work(engine, api):
        made, go = asyncio.Event(), asyncio.Event()

        async def after():
            made.set()
            await go.wait()

        api.on_create["Pod"] = None, after
        starting = asyncio.create_task(engine.start(LIKE))
        await made.wait()
        starting.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert api.asked == ["create Pod", "create Secret", "delete adit-f-1"] and not api.pods

    at_engine(work)


@pytest.mark.parametrize(
    "error", [LoginError("the login program failed"), ValueError("no JSON"), OSError("no program")]
)
def test_a_cluster_that_is_away_ends_nothing_that_tells_that_it_lives_and_is_followed_again(
    at_engine, monkeypatch, capfd, error
):
    async def work(engine, api):
        monkeypatch.setattr(kubernetes, "GONE_S", 0.0)
        well, silent = (kubernetes.KubernetesPod(engine, name, Guest()) for name in ("well", "silent"))
        silent._guest.silent = kubernetes.HELD_S + 1
        for one in (well, silent):
            one.is_made, engine._pods[one.id] = True, one
        api.error = error
        following = asyncio.create_task(engine._follow("1"))
        assert (await silent.ended()).status == GONE
        assert not well._ended.done()
        api.error = None
        assert (await well.ended()).status == GONE  # it is in no list
        await tasks.end(following)

    at_engine(work)
    assert capfd.readouterr().err.count("what becomes of Pods is not known") == 1


def test_the_output_of_a_pod_goes_on_where_a_connection_broke_until_it_has_ended(at_engine, monkeypatch):
    async def work(engine, api):
        mine, asked = kubernetes.KubernetesPod(engine, "p", Guest()), []
        lines = [b"2026-01-31T12:00:00.1Z one\n", b"2026-01-31T12:00:01.2Z two\n", b"2026-01-31T12:00:01.3Z three\n"]

        async def stream():
            yield b"".join(lines[max(0, len(asked) - 2) : len(asked)])
            if len(asked) == len(lines):
                mine.settle(kubernetes.Ended(0))
            raise OSError("reset")

        class Http:
            is_error = False

            @contextlib.asynccontextmanager
            async def stream(self, method, path, params, timeout):
                asked.append(params.get("sinceTime"))
                yield self

            def aiter_bytes(self):
                return stream()

        api._client = SimpleNamespace(_client=Http())
        assert [data async for data in mine.output()] == [(1, b"one\n"), (1, b"two\n"), (1, b"three\n")]
        assert asked == [None, "2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z", "2026-01-31T12:00:01Z"]

    at_engine(work)


def test_a_delete_that_is_refused_does_not_keep_others_from_it(at_engine):
    async def work(engine, api):
        api.pods = {name: pod(name, "Running") for name in ("refused", "left")}
        engine._undeleted = {"refused", "left"}
        await engine._list()
        assert list(api.pods) == ["refused"]

    at_engine(work)


def test_only_pods_of_the_own_state_folder_are_leftovers_whatever_machines_are_called(at_engine, monkeypatch, tmp_path):
    async def work(engine, api):
        for name, state in (("mine", engine._own[kubernetes.STATE]), ("other", "0" * 32)):
            marks = {"adit.owner": "x"}
            api.pods[name] = pod(name, "Running", {kubernetes.STATE: state}, annotations=marks)

        async def nothing(*_):
            return []

        monkeypatch.setattr(kubernetes.Docker, "leftovers", nothing)
        [(found, labels)] = await engine.leftovers("adit.owner")
        assert found.id == "mine" and labels == {"adit.owner": "x"} and not engine._pods
        await found.remove()
        assert list(api.pods) == ["other"] and not engine._pods
        assert Kubernetes("unix:///nowhere")._own == engine._own
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        assert Kubernetes("unix:///nowhere")._own != engine._own

    at_engine(work)


def test_pods_that_nobody_waits_for_any_more_are_removed(at_engine, monkeypatch):
    async def work(engine, api):
        waits = {"annotations": {kubernetes.WITHIN: "20"}}
        api.pods = {"left": pod("left", "Pending", **waits), "another's": pod("another's", "Pending")}
        await engine._list()
        now = time.monotonic()
        monkeypatch.setattr(kubernetes, "time", SimpleNamespace(monotonic=lambda: now + 20 + kubernetes.STALE_S + 1))
        api.pods["new"] = pod("new", "Pending", **waits)
        await engine._list()
        assert list(api.pods) == ["another's", "new"]

    at_engine(work)


def test_a_gate_that_does_not_open_leaves_no_client(at_engine, monkeypatch):
    async def work(engine, api):
        made = []

        class Client:
            ca_file = "authority.pem"

            def __init__(self):
                self.is_closed = False
                made.append(self)

            def narrow(self):
                return "token"

            def close(self):
                self.is_closed = True

        monkeypatch.undo()
        monkeypatch.setattr(kubernetes, "Client", Client)
        monkeypatch.setattr(
            "adit.functions.foreman.ways.ways", lambda _: [SimpleNamespace(host="relay.test", port=443)]
        )
        for _ in range(2):
            with pytest.raises(ConfigError, match="Pods cannot reach"):
                await engine._gate()
        assert [client.is_closed for client in made] == [True, True] and engine._client is None

    at_engine(work)


def test_what_swallows_a_cancellation_ends_all_the_same(monkeypatch):
    async def swallow():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

    async def live():
        swallowing = asyncio.create_task(swallow())
        await asyncio.sleep(0)
        await asyncio.wait_for(tasks.end(swallowing, None), 20)
        assert swallowing.cancelled()

    monkeypatch.setattr(tasks, "AGAIN_S", 0.0)
    asyncio.run(live())


def test_a_gate_without_a_folder_for_its_socket_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no folder for temporary files: No such file.*TMPDIR=FOLDER"):
        Gate(None, [])


def test_a_pod_tries_again_to_reach_its_foreman_and_for_a_moment_only(monkeypatch):
    async def dial(purpose):
        errors.append(OSError("refused"))
        if len(errors) < 3:
            raise errors[-1]
        return purpose

    errors, pod_of_dials = [], SimpleNamespace(_dial=dial)
    monkeypatch.setattr(pod_process, "AGAIN_S", 0.0)
    assert asyncio.run(pod_process.Pod._reach(pod_of_dials, "foreman")) == "foreman"
    errors.clear()
    monkeypatch.setattr(pod_process, "REACH_S", 0.0)
    with pytest.raises(OSError, match="refused"):
        asyncio.run(pod_process.Pod._reach(pod_of_dials, "foreman"))


def test_whoever_comes_back_asks_a_cluster_again_that_does_not_answer(at_engine, monkeypatch, capfd):
    async def work(engine, api):
        every, errors = api.list, [OSError("reset"), OSError("refused")]

        def answer(*what, **how):
            if errors:
                raise errors.pop()
            return every(*what, **how)

        monkeypatch.setattr(patience, "AGAIN_S", 0.0)
        monkeypatch.setattr(kubernetes.Docker, "leftovers", nothing)
        api.list = answer
        api.pods = {"p": pod("p", "Running", engine._own, annotations={"adit.owner": "o"})}
        assert [(one.id, marks) for one, marks in await engine.leftovers("adit.owner")] == [("p", {"adit.owner": "o"})]
        api.error = OSError("unreachable")
        monkeypatch.setattr(patience, "ANSWER_S", 0.0)
        with pytest.raises(RemoteError, match="unreachable"):
            await engine.leftovers("adit.owner")

    async def nothing(*_):
        return []

    at_engine(work)
    assert capfd.readouterr().err.count("asked again for 30 s") == 1


def test_what_a_login_program_says_is_told(at_engine):
    async def work(engine, api):
        api.error = LoginError("Exec aws returned 1")
        with pytest.raises(RemoteError, match="Exec aws returned 1"):
            await engine._list()

    at_engine(work)


class Coming(Guest):
    """One that comes to the gate, or does not."""

    def __init__(self, here):
        super().__init__()
        self.here = here

    async def comes(self, seconds):
        return self.here


@pytest.mark.parametrize(
    ("phase", "here", "is_taken"),
    [("Running", True, True), ("Running", False, False), ("Succeeded", True, False), (None, True, False)],
)
def test_a_pod_of_the_foreman_before_is_taken_over_if_it_runs_and_comes(
    at_engine, monkeypatch, tmp_path, phase, here, is_taken
):
    async def work(engine, api):
        admitted, dismissed, folder = [], [], str(tmp_path / "a1")

        def admit(*what):
            admitted.append(what)
            return Coming(here)

        async def gate(returning):
            assert returning == "service node /run/caller.sock"
            return SimpleNamespace(admit=admit, dismiss=dismissed.append)

        monkeypatch.setattr(engine, "_gate", gate)
        state = {"running": {}} if phase == "Running" else {"terminated": {"exitCode": 0}}
        found = Pod.from_dict(
            {
                "metadata": {
                    "name": "p",
                    "labels": engine._own,
                    "annotations": {"adit.owner": "service node /run/caller.sock", "adit.worker": "a1"},
                    "creationTimestamp": "2026-01-31T12:00:00Z",
                },
                "spec": {
                    "containers": [{"name": "function", "resources": {"limits": {"cpu": "4100m", "memory": "4Gi"}}}]
                },
                "status": {"phase": phase, "containerStatuses": [{**STATUS, "state": state}]},
            }
        )
        api.pods = {"p": found} if phase else {}
        pod = kubernetes.KubernetesPod(engine, "p")
        assert await engine.adopt(pod, 5.0, folder) is is_taken
        assert engine._pods == ({"p": pod} if is_taken else {})
        if phase:
            [(identity, place, limits, patience, age)] = admitted
            assert (identity, place, limits, patience) == ("a1", folder, Resources(4.1, 4 << 30), 30.0) and age > 0
        assert len(dismissed) == (not is_taken and phase is not None)
        assert (pod.read_until, (tmp_path / "a1").is_dir()) == ((5.0, True) if phase else (0.0, False))

    at_engine(work)


STATUS = {"name": "function", "image": "i", "imageID": "i", "ready": True, "restartCount": 0}


def test_what_no_node_takes_is_told_without_what_the_scheduler_tried(at_engine):
    async def work(engine, api):
        message = (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/1 "
            "nodes are available: 1 No preemption victims found for incoming pod."
        )
        waiting = pod("p", "Pending")
        waiting.status = Pod.from_dict(
            {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}}
        ).status
        mine = kubernetes.KubernetesPod(engine, "p", Guest())
        mine.take("MODIFIED", waiting)
        with pytest.raises(RemoteError) as told:
            await mine.up(0.0, 60.0)
        assert str(told.value) == (
            "kubernetes: no node takes it: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu (within 60 s, see "
            "startup_timeout=)"
        )

    at_engine(work)


def test_a_claim_is_called_as_its_volume_where_a_cluster_takes_that_and_like_no_other():
    names = ["adit-0-data", "adit-0-Data", "adit-0-da_ta", "adit-0-da.ta", "adit-0-" + "x" * 64, "adit-0-" + "x" * 63]
    made = [claims.claim_name(name) for name in names]
    assert made[0] == names[0] and len(set(made)) == len(names)
    assert all(re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in made)
    assert [claims.claim_name(name) for name in made] == made
