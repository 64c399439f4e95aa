"""The foreman as a service, with an engine that is none: what it replaces, what it ends, what it has again."""

import asyncio
import os
import socket

import pytest

from adit.exception import ConfigError
from adit.functions.engine import Resources
from adit.functions.foreman import service
from adit.functions.foreman.foreman import Foreman


class Engine:
    """Nothing runs in it."""

    def __init__(self):
        self.volumes = {}

    async def leftovers(self, label):
        return []

    async def leftover_volumes(self, label):
        return [(name, labels) for name, labels in self.volumes.items() if label in labels]

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
    assert not os.path.exists(place[0]) and not os.path.exists(folder)
