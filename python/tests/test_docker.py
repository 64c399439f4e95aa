"""What is made of what an engine of Docker's kind says of its containers, with none."""

import asyncio

from adit.functions.engine import GONE
from adit.functions.engine.docker import Docker, DockerContainer


def test_when_events_were_missed_what_has_not_started_yet_is_not_taken_for_gone():
    states = {"a": "created", "b": "running", "c": "paused", "d": "exited", "e": "removing", "f": None}

    async def ask(_, path, **query):
        assert path == "containers/json"
        there = [{"Id": name, "State": state} for name, state in states.items() if state is not None]
        return there if query.get("all") else [one for one in there if one["State"] in ("running", "paused")]

    async def work():
        engine = Docker("unix:///nowhere")
        engine._ask = ask
        engine._running = {name: DockerContainer(engine, name) for name in states}
        await engine._relist()
        gone = [name for name, one in engine._running.items() if one._ended.done()]
        assert gone == ["d", "e", "f"]
        assert {(await engine._running[name].ended()).status for name in gone} == {GONE}
        await engine.close()

    asyncio.run(work())
