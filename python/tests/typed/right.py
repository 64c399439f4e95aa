"""What a user of functions writes: test_typing.py has type checkers read it, and nobody runs it."""

from collections.abc import AsyncIterator, Iterator

import adit
from adit import (
    App,
    Dict,
    FunctionCall,
    Image,
    Mount,
    Period,
    Queue,
    Retries,
    Secret,
    Stub,
    Volume,
    enter,
    exit,
    forward,
    gather,
    gpu,
    method,
    web_endpoint,
)

stub = Stub()
stub.image = Image.debian_slim(python_version="3.12").pip_install("numpy", pre=True).apt_install(["git"])
app = App("typed", image=stub.image, secrets=[Secret.from_dict({"A": "b"})], volumes={"/all": Volume.ephemeral()})
data = Volume.from_name("data", create_if_missing=True)

with stub.image.imports():
    import json


@app.function(
    timeout=900,
    cpu=(0.5, 2),
    memory=512,
    gpu=[gpu.A100(count=2), "any"],
    retries=Retries(max_retries=2),
    schedule=Period(hours=4),
)
def add(a: int, b: int = 0, *, word: str = "") -> str:
    """Adds."""
    return f"{a + b}{word}"


@app.function(image=stub.image, volumes={"/data": data}, mounts=[Mount.from_local_file("x")], keep_warm=None)
async def later(n: int) -> float:
    return n / 2


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function()
@web_endpoint(method="POST")
def hub(name: str) -> dict[str, str]:
    with Queue.ephemeral() as q, forward(8000) as tunnel:
        q.put(tunnel.url, timeout=3)
        return {"name": json.dumps(name)}


@app.cls(allow_concurrent_inputs=3)
class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    @enter()
    def load(self) -> None:
        self.weights = [0.0] * self.size

    @method()
    def predict(self, x: float, *, scale: int = 1) -> list[float]:
        return [w * x * scale for w in self.weights]

    @method()
    async def ask(self, word: str) -> bytes:
        return word.encode()

    @exit()
    def leave(self) -> None:
        self.weights.clear()


@app.cls()
class Site:
    @web_endpoint()
    def page(self, name: str = "") -> dict[str, str]:
        return {"name": name}

    def other(self) -> dict[str, str]:
        return self.page(name="x")


@app.local_entrypoint()
def main(n: int = 3) -> None:
    where: str | None = Site.page.web_url
    print(where)
    one: str = add.remote(1, b=2, word="x")
    two: FunctionCall[str] = add.spawn(1)
    three: str = two.get(timeout=3)
    four: str = add.local(1)
    five: list[str] = list(add.map(range(n), order_outputs=False))
    six: float = later.remote(1)
    for seven in add.starmap([(1, 2)]):
        print(seven.upper())
    eight: list[str] = gather(two, two)
    nine: list[float] = Model(3).predict.remote(1.5, scale=2)
    ten: bytes = Model(size=3).ask.remote("x")
    url: str | None = hub.web_url
    print(one, two, three, four, five, six, eight, nine, ten, url, add.for_each([1]), add.__doc__)
    print(list(count.remote_gen(3)))
    Model(2).predict.for_each([1.0])


async def asynchronous() -> None:
    one: str = await add.remote.aio(1, b=2)
    two: FunctionCall[str] = await add.spawn.aio(1)
    three: str = await two.get.aio(timeout=3)
    results: AsyncIterator[str] = add.map.aio([1, 2])
    async for four in results:
        print(four.upper())
    five: float = await later.local(1)
    six: float = await later.remote.aio(1)
    eight: list[str] = await gather.aio(two)
    nine: list[float] = await Model(1).predict.remote.aio(2.0)
    async with Dict.ephemeral({"a": 1}) as d, Queue.ephemeral(maxsize=3) as q:
        await d.put.aio("b", 2)
        there: bool = await d.contains.aio("b")
        n: int = await q.len.aio()
        async for key, value in d.items.aio():
            print(key, value)
    await data.commit.aio()
    print(one, three, five, six, eight, nine, there, n)


if __name__ == "__main__":
    with app.run(show_progress=False):
        main()
    raise adit.exception.InvalidError("")
