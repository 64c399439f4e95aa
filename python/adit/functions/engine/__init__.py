"""What the foreman asks of a container engine, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import IO


EXACT, SAMPLED = "exact", "sampled"  # how use is known: counted by the kernel up to that moment; or to one before
REPORTED = "reported"  # by the container itself: nobody else could look


@dataclass(frozen=True)
class Resources:
    """The limits of a container, and what the engine's machine has."""

    cpus: float
    memory_bytes: int


@dataclass(frozen=True)
class Place:
    """A folder of this machine in a container."""

    source: str
    target: str
    read_only: bool = True


class VolumePlace(NamedTuple):
    """A volume of the engine's in a container."""

    name: str
    target: str


class Gpu(NamedTuple):
    """A GPU of this machine, as its driver calls it."""

    number: str
    uuid: str
    name: str


@dataclass(frozen=True)
class Container:
    """A container to be started."""

    image: str
    command: list[str]
    name: str
    labels: dict[str, str]
    places: list[Place] = field(default_factory=list)
    volumes: list[VolumePlace] = field(default_factory=list)
    limits: Resources | None = None
    requests: Resources | None = None
    """What it is to have in any case, where an engine has several machines to choose from; and for how long one may
    take to be found, in seconds."""
    within: float = 60.0
    user: int = 0
    env: dict[str, str] = field(default_factory=dict)
    network: bool = False
    gpus: list[Gpu] = field(default_factory=list)
    parent: str | None = None
    """The control group that its own is made in, where the engine shares_groups()."""
    sealed: bool = True
    """A function's: read-only root, no capabilities, tmpfs for what it writes. A build step's is not."""
    held: bool = True
    """Its standard input ends when whoever started it does, by which it knows to end. Else it has none."""


GONE = -1  # the status of a container whose end nobody saw


@dataclass(frozen=True)
class Build:
    """An image to be built by the engine itself, from a Dockerfile."""

    context: IO[bytes]
    """A tar archive of what it may copy from, and of itself."""
    dockerfile: str
    tag: str
    args: dict[str, str]
    labels: dict[str, str]
    fresh: bool = False
    """Nothing that was built before is to be used."""
    parent: str | None = None
    """The control group that those of its containers are made in, where the engine shares_groups()."""


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    status: int
    out_of_memory: bool = False
    why: str = ""
    """In the engine's own words, when it was the engine that ended it."""


@dataclass(frozen=True)
class Usage:
    """What a container has used until now: nanoseconds of processors, and bytes of memory at the moment, without those
    of files that could be read again."""

    cpu_ns: int
    memory_bytes: int
    how: str = EXACT
    """It is known."""


@dataclass(frozen=True)
class About:
    """What an engine tells of itself."""

    product: str
    storage: str
    folder: str
    """Where it keeps its data."""
    cgroups: str
    runtime: str
    runtimes: list[str]
    lacks: list[str]
    """Limits that it cannot hold containers to."""


@dataclass(frozen=True)
class Stored:
    """An image that an engine keeps."""

    id: str
    tags: list[str]
    labels: dict[str, str]
    created: float
    own_bytes: int
    """Without those of the image that it was made from."""


class Running(Protocol):
    """A container that was started."""

    id: str

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it writes: 1 or 2 for the stream, and bytes as they come; ends with it."""

    async def ended(self) -> Ended:
        """Waits for its end."""

    async def usage(self) -> Usage | None:
        """What it has used; None when that cannot be told, as when it has ended."""

    async def rename(self, name: str) -> None:
        """Calls it otherwise, for people, where the engine can."""

    async def signal(self, name: str) -> None:
        """Sends a signal to its first process; nothing if it has ended."""

    async def remove(self) -> None:
        """Kills it if need be, and leaves nothing of it."""


class Engine(Protocol):
    """A container engine of this machine."""

    name: str
    has_machines: bool
    """It finds one for each container, by what that asks for; this foreman knows none of them."""

    async def resources(self) -> Resources:
        """What its machine has."""

    async def about(self) -> About:
        """What it is."""

    async def data_folder(self) -> str | None:
        """Where it keeps images and containers, if that is on this machine."""

    async def gives_gpus(self) -> bool:
        """Whether containers can have GPUs."""

    async def shares_groups(self) -> bool:
        """Whether its containers are in control groups of this machine, below those that they are given."""

    async def start(self, container: Container) -> Running:
        """Starts one. ImageError if there is no such image, RemoteError otherwise."""

    async def adopt(self, running: Running, since: float, folder: str) -> bool:
        """One of the leftovers is had as if it had been started here; what it has written is that since then (of the
        wall clock). ``folder`` has its sockets. False when it does not run."""

    async def find_image(self, name: str) -> str | None:
        """The id of an image that is there."""

    async def can_pull(self, name: str) -> str | None:
        """Why an image cannot be fetched; None when it can."""

    async def stored(self, label: str) -> list[Stored]:
        """All images with such a label."""

    async def drop(self, identity: str) -> bool:
        """Removes an image; False when something still needs it."""

    async def pull(self, name: str) -> str:
        """Fetches an image from its registry; its id."""

    async def commit(self, running: Running, tag: str, changes: list[str], labels: dict[str, str]) -> str:
        """Makes an image of what a container has become; its id."""

    async def derive(
        self,
        image: str,
        tag: str,
        changes: list[str],
        labels: dict[str, str],
        owner: dict[str, str],
        archive: bytes | None = None,
    ) -> str:
        """An image like another with other settings, and with the files of a tar archive (from its root); its id.
        ``owner`` are labels of the container that it is made in, which else has those of the image."""

    async def build(self, build: Build, tell: Callable[[str], None]) -> str:
        """An image of a Dockerfile; its id. ImageError when a step of it fails. Tells each line of it."""

    async def leftovers(self, label: str) -> list[tuple[Running, dict[str, str]]]:
        """All containers with such a label, whatever state they are in, and their labels."""

    async def has_volume(self, name: str) -> bool:
        """Whether there is a volume of that name."""

    async def make_volume(self, name: str, labels: dict[str, str]) -> None:
        """Makes one, unless there is one. While it is empty, it takes owner and mode of the folder in the image that it
        is mounted at."""

    async def remove_volume(self, name: str) -> None:
        """With all that is in it; nothing if there is none."""

    async def leftover_volumes(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """The names of all volumes with such a label, and their labels."""

    async def close(self) -> None:
        """Lets go of it."""
