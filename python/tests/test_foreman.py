"""The foreman as a service, with an engine that is none: what it replaces, what it ends, what it has again."""

import asyncio
import errno
import io
import json
import os
import select
import socket
import tempfile
from typing import ClassVar

import pytest

from adit.exception import ConfigError, ExecutionError, ImageError, NotFoundError
from adit.functions import options, remote
from adit.functions.engine import Resources
from adit.functions.foreman import apps, archive, foreman as foreman_module, kept, news, owner, server, service
from adit.functions.foreman.calls import Call
from adit.functions.foreman.endpoint import Endpoint, ticket_path
from adit.functions.foreman.foreman import Foreman
from adit.functions.foreman.kept import TABLES
from adit.functions.foreman.relays import Relay
from adit.functions.foreman.spares import Reserve
from adit.functions.foreman.verbs import CALLER, Asked
from adit.functions.spec import AppSpec, FunctionSpec, ImageSpec, WebSpec


class Engine:
    """Nothing runs in it."""

    def __init__(self):
        self.volumes = {}

    async def leftovers(self, label):
        return []

    async def leftover_volumes(self, label):
        return [(name, labels) for name, labels in self.volumes.items() if label in labels]

    async def find_image(self, name):
        return f"id of {name}"

    async def has_volume(self, name):
        return name in self.volumes

    async def make_volume(self, name, labels):
        self.volumes[name] = labels

    async def remove_volume(self, name):
        self.volumes.pop(name, None)

    async def shares_groups(self):
        return False

    async def resources(self):
        return Resources(4.0, 8 << 30)

    async def close(self):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Of a socket and of the state of a foreman."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ADIT_STORE", str(tmp_path / "store.db"))
    return str(tmp_path / "caller.sock"), str(tmp_path / "state")


def live(place, work, engine=None):
    """``await work(foreman)``, of one that is open for so long."""

    async def run():
        foreman = Foreman(engine or Engine(), place)
        try:
            await foreman.open()
            return await work(foreman)
        finally:
            await foreman.close()

    return asyncio.run(run())


async def nothing(_):
    pass


def test_whoever_was_silent_until_the_foreman_hung_up_asks_on_another_connection(place, monkeypatch):
    monkeypatch.setattr(server, "SILENT_S", 0.05)

    async def work(foreman):
        channel = remote.Channel(foreman.path)

        def ask():
            first = channel.ask("app_list")
            [idle] = channel._idle
            assert select.select([idle.sock], [], [], 20)[0]
            assert channel.ask("app_list") == first

        await asyncio.to_thread(ask)

    live(place, work)


def test_a_connection_is_kept_while_whoever_has_it_works_on_the_longest_call():
    assert server.SILENT_S > 2 * options.TIMEOUT_MAX_S


def test_a_file_at_the_sockets_place_stays(place):
    with open(place[0], "w") as file:
        file.write("mine")
    with pytest.raises(ConfigError, match="is there, and no socket"), service._alone(place[0]):
        pass
    with pytest.raises(OSError):
        live(place, nothing)
    with open(place[0]) as file:
        assert file.read() == "mine"


def test_a_folder_that_is_no_foremans_stays(place):
    folder = place[0].removesuffix(".sock") + ".d"
    os.makedirs(f"{folder}/sub")
    with pytest.raises(ConfigError, match="is there, and no foreman's"):
        live(place, nothing)
    assert os.path.isdir(f"{folder}/sub")


def test_the_socket_of_another_program_stays(place):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(place[0])
        other.listen()
        with pytest.raises(ConfigError, match="another program listens"), service._alone(place[0]):
            pass
        assert os.path.exists(place[0])


def test_what_a_foreman_that_was_killed_has_left_is_replaced(place):
    folder = place[0].removesuffix(".sock") + ".d"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place[0])
    os.mkdir(folder)

    async def look(foreman):
        foreman._is_folder_ours = False  # which leaves it, as one does that is killed
        return os.listdir(folder)

    first = live(place, look)
    with open(f"{folder}/left", "w"), service._alone(place[0]):
        assert live(place, look) == first
    live(place, nothing)
    assert not os.path.exists(place[0]) and os.listdir(folder) == ["owner"]


def test_what_lives_on_in_the_folder_of_a_foreman_is_nobody_elses(place, monkeypatch):
    """Neither another's at a socket of nearly that name, nor to be swept while there is none."""
    monkeypatch.setattr(tempfile, "tempdir", os.path.dirname(place[0]))
    path = os.path.join(os.path.dirname(place[0]), "adit-\u00fc.sock")
    base = path.removesuffix(".sock")
    with service._alone(path), pytest.raises(ConfigError, match=f"one listens at {base} already"), service._alone(base):
        pass

    async def leave(foreman):
        os.mkdir(f"{foreman.folder}/container")
        return foreman.folder

    folder = live((path, place[1]), leave)
    monkeypatch.setattr(owner, "boot", lambda: "another")
    owner._sweep_folders()
    with pytest.raises(ConfigError, match=f"is of the one at {path} "):
        live((base, place[1]), nothing)
    assert os.path.isdir(f"{folder}/container")


def test_a_process_of_which_it_cannot_be_told_may_live(monkeypatch):
    mine, booted = owner.labels()[owner.LABEL], owner.boot()
    assert owner.is_alive(mine) and not owner.is_alive(mine + "0")
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        nobody = file.read().strip()
    assert not owner.is_alive(" ".join([*mine.split()[:3], nobody, "1"]))
    for error in (OSError(errno.EMFILE, "too many"), PermissionError(), FileNotFoundError()):

        def fail(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(owner, "boot", lambda: booted)
            patch.setattr(owner, "open", fail, raising=False)
            assert owner.is_alive(mine)


def test_without_a_folder_for_temporary_files_it_says_so(monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setattr("tempfile.mkdtemp", none)
    owner._sweep_folders()
    with pytest.raises(ConfigError, match=r"no folder for temporary files: .*\(name one: TMPDIR=FOLDER\)"):
        Foreman(None)


def test_where_sockets_do_not_fit_it_says_so_and_begins_nothing(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * (80 - len(os.fspath(tmp_path))))
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", os.fspath(folder))
    with pytest.raises(ConfigError, match=r"for sockets, 80 bytes at most \(name a shorter one: TMPDIR=FOLDER"):
        Foreman(None)
    with pytest.raises(ConfigError, match=r"too long for sockets, 80 bytes at most \(name another --socket"):
        Foreman(None, (f"{folder}/caller.sock", os.fspath(folder)))
    assert not os.listdir(folder)


def test_what_does_not_come_up_is_named_once():
    class Pool:
        spec = FunctionSpec("page", "m", "page")

        def __init__(self, why):
            self.why = why

        async def up(self):
            return None, self.why

    for why in ("it cannot be imported", "page: it cannot be imported"):
        with pytest.raises(ExecutionError, match=r"^page: it cannot be imported$"):
            asyncio.run(apps._check(Pool(why)))


def spec_of(name="shop", **functions):
    return AppSpec(name, {f: FunctionSpec(f, "m", f, **more) for f, more in (functions or {"f": {}}).items()})


def asked(foreman, spec, app=None, **meta):
    return Asked(foreman, None, {"spec": spec.to_meta(), "app": app, "name": spec.name, **meta}, b"code")


async def deploy(foreman, spec):
    """``adit deploy``, as far as the foreman sees it."""
    app = (await CALLER["app_named"](asked(foreman, spec))).meta["app"]
    return await CALLER["app_update"](asked(foreman, spec, app))


async def rows(foreman):
    return [(row["name"], row["version"]) for row in await foreman.store.read(TABLES, "SELECT * FROM deployed")]


@pytest.fixture
def checks(monkeypatch):
    """Versions come up when they are told to: what the checks of new containers wait for, in order."""
    waiting = asyncio.Queue()

    async def check(pool):
        done = asyncio.get_running_loop().create_future()
        waiting.put_nowait(done)
        await done

    monkeypatch.setattr(apps, "_check", check)
    return waiting


@pytest.fixture
def comes_up(monkeypatch):
    monkeypatch.setattr(apps, "_check", nothing)


def test_what_is_stopped_while_it_is_deployed_is_stopped(place, checks):
    async def work(foreman):
        deploying = asyncio.create_task(deploy(foreman, spec_of()))
        await checks.get()
        (app,) = foreman.apps.values()
        await foreman.end_app(app)
        with pytest.raises(ExecutionError, match="app shop: it was stopped"):
            await deploying
        assert not foreman.apps and await rows(foreman) == [] and not app.pools

    live(place, work)


def test_what_is_stopped_while_it_is_made_is_not_begun(place, monkeypatch):
    async def work(foreman):
        begun, go = asyncio.Event(), asyncio.Event()

        async def prepare(spec):
            begun.set()
            await go.wait()
            return []

        monkeypatch.setattr(foreman.volumes, "prepare", prepare)
        making = asyncio.create_task(CALLER["app_create"](asked(foreman, spec_of())))
        await begun.wait()
        (app,) = foreman.apps.values()
        assert not app.is_forsaken
        ending = asyncio.create_task(foreman.end_app(app))
        for _ in range(3):  # it waits for what is under way
            await asyncio.sleep(0)
        assert app.ended and not ending.done()
        go.set()
        with pytest.raises(ExecutionError, match="it was stopped"):
            await making
        await ending
        assert not app.pools and not foreman.apps

    live(place, work)


def test_an_app_ends_also_when_whoever_stops_it_goes(place, comes_up):
    async def work(foreman):
        await deploy(foreman, spec_of())
        (app,) = foreman.apps.values()
        await app.changing.acquire()
        stopping = asyncio.create_task(foreman.end_app(app))
        await asyncio.sleep(0)
        stopping.cancel()
        app.changing.release()
        await foreman.end_app(app)
        assert app.ended and await rows(foreman) == []

    live(place, work)


def test_of_two_who_deploy_an_app_first_one_may_fail(place, checks):
    async def work(foreman):
        one, two = (asyncio.create_task(deploy(foreman, spec_of())) for _ in range(2))
        (await checks.get()).set_exception(ExecutionError("f: no"))
        (await checks.get()).set_result(None)
        with pytest.raises(ExecutionError, match="f: no"):
            await one
        assert (await two).meta["version"] == 1
        assert await rows(foreman) == [("shop", 1)]

    live(place, work)


def test_a_version_that_cannot_be_kept_is_none(place, comes_up, monkeypatch):
    async def work(foreman):
        await deploy(foreman, spec_of())
        (app,) = foreman.apps.values()
        before, save = app.pools, kept.save

        async def full(*_):
            raise ConfigError("store: disk full")

        monkeypatch.setattr(kept, "save", full)
        with pytest.raises(ConfigError, match="disk full"):
            await deploy(foreman, spec_of(g={}))
        assert app.pools is before and app.version == 1 and not before["f"].draining
        monkeypatch.setattr(kept, "save", save)
        assert (await deploy(foreman, spec_of(g={}))).meta["version"] == 2
        assert list(app.pools) == ["g"] and await rows(foreman) == [("shop", 2)]

    live(place, work)


def test_what_a_version_makes_while_another_comes_up_is_of_its_own(place, checks):
    async def use(foreman):
        deploying = asyncio.ensure_future(deploy(foreman, spec_of()))
        (await checks.get()).set_result(None)
        await deploying
        app = foreman.find_deployed("shop")
        app.reserve = Reserve(app, b"", 1)
        deploying = asyncio.ensure_future(deploy(foreman, spec_of()))
        done = await checks.get()
        app.reserve.want(app.pools["f"].spec)
        assert [made.version for made in (app.pool("f", "key"), *app.reserve.kinds)] == [1, 1]
        done.set_result(None)
        await deploying
        assert app.pool("f", "key").version == 2

    live(place, use)


def test_visitors_get_the_new_version_before_anything_is_waited_for(place, comes_up, monkeypatch):
    class Gate:
        url, pool = "https://x", None

        def point(self, pool):
            self.pool = pool

        async def close(self):
            assert gates["b"].pool is app.pools["b"], "another endpoint still leads to the version before"

    async def work(foreman):
        nonlocal app
        await deploy(foreman, spec_of())
        (app,) = foreman.apps.values()
        app.endpoints.update(gates)
        await deploy(foreman, spec_of(b={"web": WebSpec("endpoint")}))
        assert list(app.endpoints) == ["b"]

    app, gates = None, {"a": Gate(), "b": Gate()}
    live(place, work)


def test_a_detached_run_and_a_deployed_app_of_one_name_are_two(place, comes_up):
    async def work(foreman):
        run = (await CALLER["app_create"](asked(foreman, spec_of(), kind="detached"))).meta["app"]
        with pytest.raises(NotFoundError):
            await CALLER["function_find"](asked(foreman, spec_of(), "shop", function="f"))
        assert foreman.find_app("shop").id == run
        assert [(await deploy(foreman, spec_of())).meta["version"] for _ in range(2)] == [1, 2]
        assert (await CALLER["function_find"](asked(foreman, spec_of(), "shop", function="f"))).meta["app"] != run
        await CALLER["app_close"](asked(foreman, spec_of(), "shop", must=True))
        assert list(foreman.apps) == [run] and await rows(foreman) == [("shop", 0)]

    live(place, work)


def test_without_the_relay_an_app_waits_and_leaves_nothing_lying(place, comes_up, monkeypatch):
    tries = asyncio.Semaphore(0)

    async def client():
        return None

    async def opens(endpoint):
        endpoint._server = await asyncio.start_unix_server(nothing, endpoint._path)
        tries.release()
        raise OSError("relay: it is away")

    async def first(foreman):
        foreman.relay.client = client
        await deploy(foreman, web)

    async def second(foreman):
        for _ in range(3):
            await tries.acquire()
        (app,) = foreman.apps.values()
        assert "page" in app.pools and "it is away" in app._missing
        await foreman.end_app(app)
        await asyncio.wait(foreman._resuming)
        assert [name for name in os.listdir(foreman.folder) if name.startswith("web-")] == []

    web = spec_of(page={"web": WebSpec("endpoint")})
    monkeypatch.setattr(Endpoint, "open", nothing)
    live(place, first)
    monkeypatch.setattr(Endpoint, "open", opens)
    monkeypatch.setattr(foreman_module, "RESUMED_S", 0.1)
    monkeypatch.setattr(Relay, "client", lambda _: client())
    monkeypatch.setattr(apps, "RESUME_S", 0)
    live(place, second)


def test_a_foreman_that_comes_back_makes_volumes_and_tells_one_app_alone_what_it_misses(place, comes_up, monkeypatch):
    monkeypatch.setattr(foreman_module, "RESUMED_S", 0.1)
    monkeypatch.setattr(apps, "RESUME_S", 0)

    async def first(foreman):
        await deploy(foreman, spec_of("tmp", f={"volumes": {"/v": {"name": "e", "ephemeral": True}}}))
        await deploy(foreman, spec_of("data", f={"volumes": {"/v": {"name": "d", "create": True}}}))
        await deploy(foreman, spec_of("odd"))
        await foreman.store.write(TABLES, ("UPDATE deployed SET spec = '[' WHERE name = 'odd'",))
        foreman.engine.volumes.clear()
        app = foreman.find_deployed("data")
        lost = spec_of("data", f={"volumes": {"/v": {"name": "d"}}})
        await kept.save(app, lost, b"code", 1)

    async def second(foreman):
        assert set(foreman.engine.volumes["adit-ephemeral-e"]) >= set(foreman.labels)
        assert list(foreman.find_deployed("tmp").pools) == ["f"]
        data, odd = foreman.find_deployed("data"), foreman.find_deployed("odd")
        with pytest.raises(ExecutionError, match=r"f: its app is not back yet: .*volume d: there is none"):
            data.pool("f")
        assert b"cannot be read" in odd.news._kept[-1]
        assert (await deploy(foreman, spec_of("odd"))).meta["version"] == 2
        await foreman.engine.make_volume(f"adit-{os.getuid()}-d", {})
        await asyncio.wait(foreman._resuming)
        assert list(data.pools) == ["f"] and not data._missing

    engine = Engine()
    live(place, first, engine)
    live(place, second, engine)


def test_a_call_of_the_version_before_can_be_cancelled(place, comes_up):
    class Busy:
        connections, cancelled, ready, ending = 0, None, asyncio.Event(), False
        calls: ClassVar[dict] = {}

        def cancel(self, call):
            self.cancelled = call

        async def stop(self):
            pass

    async def work(foreman):
        await deploy(foreman, spec_of())
        (app,) = foreman.apps.values()
        busy = Busy()
        call = Call(app.id, "f", b"", foreman.calls.budget, inside=False, trusted=True)
        busy.calls = {0: call}
        foreman.calls.add(call)
        app.pools["f"].workers.append(busy)
        await deploy(foreman, spec_of(g={}))
        await CALLER["call_cancel"](Asked(foreman, None, {"call": call.id}, b""))
        assert busy.cancelled is call and call.done
        await foreman.end_app(app)

    live(place, work)


def test_news_go_on_when_their_file_cannot_be_replaced(tmp_path, monkeypatch):
    def full(path):
        raise OSError("no space left")

    path = str(tmp_path / "log")
    monkeypatch.setattr(news, "FILE_MAX", 100)
    told = news.News(path)
    with monkeypatch.context() as patch:
        patch.setattr(news, "_open", full)
        for n in range(10):
            told.tell("output", n=n)
    told.tell("output", n=10)
    told.tell("output", n=11)
    told.end()
    with open(path, "ab") as file:
        file.write(b'{"kind": "out{"kind": "output"}\n')
    assert [json.loads(line)["n"] for line in news.News(path)._kept] == list(range(12))


def test_logs_of_apps_that_are_no_more_go_with_the_foreman_that_knew_them(place, comes_up):
    async def first(foreman):
        stays = (await CALLER["app_create"](asked(foreman, spec_of("gone"), kind="detached"))).meta["app"]
        await deploy(foreman, spec_of())
        return stays, foreman.find_deployed("shop").id

    async def second(foreman):
        return os.listdir(foreman._logs)

    async def end(foreman):
        await kept.forget(foreman.apps[gone])

    gone, stays = live(place, first)
    live(place, end)
    assert live(place, second) == [stays]


def test_apps_are_looked_at_whatever_becomes_of_one(place, comes_up, monkeypatch, capfd):
    monkeypatch.setattr(foreman_module, "LOOK_S", 0)
    monkeypatch.setitem(apps.LEASE_S, "run", -1.0)

    async def work(foreman):
        seen = asyncio.Event()

        async def fails():
            raise ValueError("oh")

        async def ends():
            seen.set()

        for name, end in (("bad", fails), ("good", ends)):
            made = apps.App(foreman, name)
            made.endings["q"] = end
            foreman.apps[made.id] = made
        await seen.wait()

    live(place, work)
    assert "adit: app bad: ValueError: oh" in capfd.readouterr().err


def test_endpoints_have_an_address_each(place):
    names = [("a.b", "c"), ("a-b", "c"), ("a", "b-c"), ("a-b-c", "c"), ("ä", "c"), ("ö", "c")]
    paths = [ticket_path(app, f, None, stays=stays) for app, f in names for stays in (True, False)]
    paths += [ticket_path("a", "c", label, stays=True) for label in ("a.b", "a-b")]
    assert len(set(paths)) == len(paths)
    assert ticket_path("a", "c", None, stays=True) == ticket_path("a", "c", None, stays=True)


def test_an_image_whose_files_have_gone_is_not_built_without_them(tmp_path):
    with pytest.raises(ImageError, match=r"data: it is no longer there"):
        archive.of_copy({"local": str(tmp_path / "data"), "remote": "data"})
    with pytest.raises(ImageError, match=r"Dockerfile: it is no longer there"):
        archive.of_context({"file": str(tmp_path / "Dockerfile"), "folder": str(tmp_path)}, io.BytesIO(), "d")


def test_a_versions_image_has_the_files_of_its_time_also_after_a_restart(place, tmp_path, monkeypatch):
    async def check(pool):
        ids.append(await pool.app.foreman.images.ensure(pool.spec.image, b"", pool.app.version_id(pool.version)))

    async def first(foreman):
        await deploy(foreman, spec)
        file.write_text("two")
        await check(foreman.find_deployed("shop").pool("f"))
        await deploy(foreman, spec)
        file.unlink()
        with pytest.raises(ImageError, match="it is no longer there"):
            await deploy(foreman, spec)

    async def second(foreman):
        await check(foreman.find_deployed("shop").pool("f"))

    ids, file = [], tmp_path / "data"
    file.write_text("one")
    spec = spec_of(f={"image": ImageSpec("base", steps=[{"kind": "copy", "local": str(file), "remote": "data"}])})
    monkeypatch.setattr(apps, "_check", check)
    live(place, first)
    live(place, second)
    one, again, two, after = ids
    assert one == again != two == after
