"""The log of a Pod, whose connections break anywhere."""

import pytest

from adit.functions.engine.log import Log

LINES = [
    b"2026-01-31T12:00:00.000000001Z first\n",
    b"2026-01-31T12:00:00.500000000Z \n",
    b"2026-01-31T12:00:00.500000001Z third of it \n",
    b"2026-01-31T12:00:01.000000000Z no end yet",
]
TEXT = b"first\n\nthird of it \nno end yet"


def served(since):
    return b"".join(line for line in LINES if line[:19].decode() >= since[:19])


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_log_is_read_once_wherever_its_connections_break(piece):
    whole = served("")
    for cut in range(len(whole) + 1):
        for again in (0, 30, 60):
            log, got = Log(), b""
            for end in (cut, again, None):
                text = served(log.since)[:end]
                log.begin()
                for at in range(0, len(text), piece):
                    got += log.feed(text[at : at + piece])
            assert got == TEXT, (cut, again)
            assert log.since == "2026-01-31T12:00:01Z"


def test_what_the_cluster_says_itself_is_passed_on_and_a_zone_is_kept():
    log = Log()
    assert log.feed(b"2026-01-31T12:00:00.5+01:00 one\nunable to read it\n") == b"one\nunable to read it\n"
    assert log.since == "2026-01-31T12:00:00+01:00"


@pytest.mark.parametrize(("zone", "clock"), [(b"Z", b"12:30"), (b"-01:30", b"11:00"), (b"+05:30", b"18:00")])
def test_what_somebody_else_has_read_is_left_out_in_whatever_zone_it_was_written(zone, clock):
    log = Log(1769860800 + 1800.25)  # 2026-01-31T12:30:00.25Z
    assert log.since == "2026-01-31T12:30:00Z"
    log.begin()
    lines = [b"2026-01-31T%s:%s%s %s\n" % (clock, at, zone, at) for at in (b"00.1", b"00.25", b"00.3", b"01")]
    assert log.feed(b"".join(lines)) == b"00.3\n01\n"


def test_lines_that_overtake_each_other_are_not_taken_for_known_ones():
    log = Log()
    assert log.feed(b"2026-01-31T12:00:00.2Z a\n2026-01-31T12:00:00.1Z b\n") == b"a\nb\n"
