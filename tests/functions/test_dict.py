"""Dicts: values by keys, for a caller and its containers."""
import asyncio

import pytest

from adit import Dict
from adit.exception import InvalidError, NotFoundError


def test_a_dict_does_what_dicts_do(configured):
    with Dict.ephemeral({"a": 1}) as d:
        d["b"], d[1, "c"] = [2], {3}
        assert d["a"] == 1 and d.get("b") == [2] and d[1, "c"] == {3}
        assert d.get("x") is None and d.get("x", 5) == 5
        assert "a" in d and d.contains("b") and "x" not in d
        assert len(d) == d.len() == 3
        assert list(d) == list(d.keys()) == ["a", "b", (1, "c")]
        assert list(d.values()) == [1, [2], {3}] and dict(d.items())["b"] == [2]
        assert d.put("a", 9, skip_if_exists=True) is False and d.put("a", 9) is True
        d.update({"x": 1}, y=2)
        assert d.pop("x") == 1 and d.pop("x", None) is None and d["y"] == 2 and d["a"] == 9
        del d["y"]
        for wrong in (lambda: d["y"], lambda: d.pop("y"), lambda: d.__delitem__("y")):
            with pytest.raises(KeyError):
                wrong()
        d.clear()
        assert len(d) == 0


def test_a_dict_is_shared_with_containers(calls):
    with Dict.ephemeral({"n": 1, "gone": "value"}) as d:
        assert calls.use_dict.remote(d, "n") == (["gone", "n"], "value")
        assert d["n"] == 2 and "gone" not in d
        with pytest.raises(KeyError):
            calls.use_dict.remote(d, "missing")


def test_a_dict_ends_with_its_block(calls):
    with Dict.ephemeral() as d:
        pass
    with pytest.raises(NotFoundError, match="dict: it has ended"):
        d.get("x")
    made, identity = calls.make_dict.remote()
    assert made == {"a": 1}
    with pytest.raises(NotFoundError):
        Dict._of(identity).len()


def test_a_name_is_one_dict(configured):
    with pytest.raises(NotFoundError, match="dict nobody's: there is none of that name .use create_if_missing=True"):
        Dict.from_name("nobody's").len()
    first = Dict.from_name("somebody's", {"a": 1}, create_if_missing=True)
    first["b"] = 2
    assert dict(Dict.from_name("somebody's", {"c": 3}).items()) == {"a": 1, "b": 2}


def test_a_dict_has_asynchronous_twins(configured):
    async def all_of_it():
        async with Dict.ephemeral({"a": 1}) as d:
            await d.put.aio("b", 2)
            await d.update.aio(c=3)
            return [await d.get.aio("a"), await d.pop.aio("b"), await d.contains.aio("b"), await d.len.aio(),
                    [k async for k in d.keys.aio()],
                    [pair async for pair in d.items.aio()], [v async for v in d.values.aio()], await d.clear.aio()]
    assert asyncio.run(all_of_it()) == [1, 2, False, 2, ["a", "c"], [("a", 1), ("c", 3)], [1, 3], None]


@pytest.mark.parametrize(("how", "kind", "said"), [
    (lambda d: d.put(object(), 1), InvalidError, "a object cannot be a key .use strings"),
    (lambda d: d.put([1], 1), TypeError, "unhashable"),
    (lambda d: d.put("x" * (1 << 17), 1), InvalidError, "a key is larger than 64 KiB"),
    (lambda d: d.update({n: n for n in range(100_001)}), InvalidError, "at most 100000 keys"),
    (lambda d: d.setdefault("a", 1), InvalidError, "use put.key, value, skip_if_exists=True"),
    (lambda d: Dict(), InvalidError, r"Dict: it has no constructor \(use Dict.ephemeral\(\) in a with block"),
    (lambda d: Dict.ephemeral().get("x"), InvalidError, "opened by a with block"),
    (lambda d: Dict.from_name(""), InvalidError, "'' is no name"),
    (lambda d: Dict.lookup("x"), InvalidError, "use Dict.from_name"),
])
def test_wrong_uses_are_told(configured, how, kind, said):
    with Dict.ephemeral() as d:
        with pytest.raises(kind, match=said):
            how(d)
        assert len(d) == 0
