"""The fixtures of every kind of test: a conftest.py names this module in its pytest_plugins."""
import pytest

from .app import App
from .roles import Box


@pytest.fixture
def box():
    b = Box()
    yield b
    b.close()


@pytest.fixture
def app(box):
    """app() is played by the test, app(function) serves each connection by it."""
    def start(serve=None, **options):
        a = App(serve, **options)
        box.closers.append(a.close)
        return a
    return start


@pytest.fixture(scope="session")
def postgresql():
    """A real server, for tests that run where its client is."""
    from .postgresql import Postgresql

    server = Postgresql()
    yield server
    server.close()
