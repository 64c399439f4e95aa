"""Classes whose objects live in containers, and functions that are sent along."""
import os
import sys

from adit import App, enter, exit, method

app = App("classes")
OFFSET = 100


class Base:
    @enter()
    def first(self):
        self.log = ["base"]


@app.cls(container_idle_timeout=30)
class Model(Base):
    def __init__(self, factor=2, *, name="plain"):
        self.factor, self.name = factor, name

    @enter()
    def load(self):
        self.log.append("loaded")
        self.calls = 0

    @enter()
    async def load_more(self):
        self.log.append("loaded more")

    @method()
    def times(self, n: int = 1) -> int:
        """Multiplies."""
        self.calls += 1
        return n * self.factor

    @method()
    def about(self):
        return self.name, self.log, self.calls, os.environ["ADIT_CONTAINER"]

    @method()
    async def later(self, n):
        return self.plain(n) + self.times.local(n)

    @method()
    def count(self, n):
        for i in range(n):
            yield i * self.factor

    @method()
    def through_another(self, n):
        return self.times.remote(n), Model(7).times.remote(n)

    def plain(self, n):
        return n + OFFSET


@app.cls()
class Ending:
    def __init__(self, q):
        self.q = q

    @method()
    def hello(self):
        return "hello"

    @exit()
    def leave(self):
        self.q.put("left")


@app.cls()
class Broken:
    @enter()
    def load(self):
        raise ValueError("cannot load")

    @method()
    def f(self):
        """Never gets there."""


@app.function()
def use(model, n):
    return model.times.remote(n)


def outer(word):
    @app.function(serialized=True, name="inner")
    def inner(n):
        return word, n + OFFSET, helper(n)

    return inner


def helper(n):
    return n * 3


inner = outer("word")


@app.function(serialized=True)
def calls_inner(n):
    return inner.remote(n), "classes" in sys.modules


