"""What type checkers are to refuse, each line that ends so and no other: see test_typing.py."""

from adit import App, Image, Model, Queue, method  # wrong

app = App(3)  # wrong
other = App()


@other.function(tiemout=3)  # wrong
def first() -> None: ...


@other.function(timeout="long")  # wrong
def second() -> None: ...


@other.function(Image.debian_slim())  # wrong
def third() -> None: ...


@other.function(volumes={"/data": "data"})  # wrong
def fourth() -> None: ...


@other.function()
def add(a: int, b: int = 0) -> str:
    return str(a + b)


@other.function()
async def later(n: int) -> float:
    return n / 2


@other.cls()
class Class:
    def __init__(self, size: int) -> None:
        self.size = size

    @method()
    def predict(self, x: float) -> str:
        return str(x)


add.remote("x")  # wrong
add.remote(c=1)  # wrong
add.spawn()  # wrong
add.local(1, 2, 3)  # wrong
add.remote(1).nothing  # wrong
add.spawn(1).get().nothing  # wrong
add.remot(1)  # wrong
one: int = add.remote(1)  # wrong
two: list[int] = list(add.map([1]))  # wrong
later.remote("x")  # wrong
three: str = later.remote(1)  # wrong
four: float = later.local(1)  # wrong
Class("x")  # wrong
Class(1).predict.remote("x")  # wrong
Class(1).predict.remote(1.0).nothing  # wrong
Class(1).nothing  # wrong
Image.debian_slim().pip_instal("x")  # wrong
Image.debian_slim(3.12)  # wrong
Queue.from_name("x", create=True)  # wrong
add.map.remote(1)  # wrong


async def asynchronous() -> None:
    five: int = await add.remote.aio(1)  # wrong
    await add.remote.aio("x")  # wrong
    async for value in add.map.aio([1]):
        value.nothing  # wrong
    print(five)
