"""The options of ``@app.function()`` and ``@app.cls()`` as type checkers see them; options.py understands them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .image import Image
    from .mount import Mount
    from .options import Retries
    from .schedule import Cron, Period
    from .secret import Secret
    from .volume import Volume

Number = float | int


class Options(TypedDict, total=False):
    """Each may be left out; None is the same as that."""

    image: Image | None
    cpu: Number | tuple[Number, Number | None] | None
    memory: int | tuple[int, int | None] | None
    gpu: str | Sequence[str] | None
    timeout: int | None
    startup_timeout: int | None
    retries: int | Retries | None
    concurrency_limit: int | None
    max_containers: int | None
    allow_concurrent_inputs: int | None
    container_idle_timeout: int | None
    scaledown_window: int | None
    keep_warm: int | None
    min_containers: int | None
    max_inputs: int | None
    single_use_containers: bool
    name: str | None
    serialized: bool
    network: bool | Sequence[str]
    block_network: bool
    is_generator: bool | None
    env: Mapping[str, str] | None
    secrets: Sequence[Secret]
    volumes: Mapping[str, Volume]
    network_file_systems: Mapping[str, Volume]
    mounts: Sequence[Mount]
    schedule: Cron | Period | None
