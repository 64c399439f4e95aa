"""Images that several want at once, without an engine."""

import asyncio

from adit.functions.foreman.images import Images
from adit.functions.spec import ImageSpec


def test_whoever_wants_an_image_whose_build_is_just_given_up_has_it_built_anew(monkeypatch):
    async def use():
        began, ending, end, builds = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

        async def build(self, spec, code):
            builds.append(spec)
            if len(builds) > 1:
                return "image"
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await end.wait()  # its container is removed

        monkeypatch.setattr(Images, "_build", build)
        images = Images(None, "", {}, None, lambda *_, **__: None)
        first = asyncio.create_task(images.ensure(ImageSpec(), b"", "ap-1/1"))
        await began.wait()
        first.cancel()
        await ending.wait()
        second = asyncio.create_task(images.ensure(ImageSpec(), b"", "ap-1/1"))
        third = asyncio.create_task(images.ensure(ImageSpec(), b"", "ap-1/1"))
        assert [await second, await third] == ["image", "image"] and len(builds) == 2
        end.set()
        await asyncio.wait({first})
        assert first.cancelled()

    asyncio.run(asyncio.wait_for(use(), 20))
