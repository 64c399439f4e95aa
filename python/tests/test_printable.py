"""What containers write, on the caller's terminal."""

from adit.functions.output import Output
from adit.functions.printable import Stream


def shown(*pieces, **options):
    stream = Stream()
    options = {"terminal": True, **options}
    return b"".join(stream.take(piece, **options) for piece in pieces) + stream.take(b"", end=True, **options)


def test_colours_and_progress_go_through_and_all_else_shows():
    assert shown(b"\x1b[31mred\x1b[0m 1%\r2%\x1b[K\tx\n") == b"\x1b[31mred\x1b[0m 1%\r2%\x1b[K\tx\n"
    assert shown(b"a\x1b]0;title\x07b\x1b[2Jc\x00\x7f") == b"a^[]0;title^Gb^[[2Jc^@^?"
    assert shown("\x9b2J schön".encode()) == "^[[2J schön".encode()


def test_a_sequence_in_two_pieces_is_one():
    assert shown(b"a\x1b", b"[3", b"1mb") == b"a\x1b[31mb"
    assert shown(b"a\x1b", b"]0;t\x07") == b"a^[]0;t^G"
    assert shown(b"a\x1b") == b"a^["


def test_elsewhere_than_on_a_terminal_it_is_as_it_was():
    assert shown(b"\x1b]0;t\x07\x1b", terminal=False) == b"\x1b]0;t\x07\x1b"


def test_with_a_name_lines_are_whole_and_the_last_gets_its_end():
    stream = Stream()
    assert stream.take(b"hel", name=b"[f 1] ", terminal=False) == b""
    assert stream.take(b"lo\n\nprogress 1%\r2", name=b"[f 1] ", terminal=False) == b"[f 1] hello\n[f 1] \n"
    assert stream.take(b"", name=b"[f 1] ", terminal=False, end=True) == b"[f 1] progress 1%\r2\n"


def test_what_another_writes_begins_a_line_and_the_rest_of_a_cut_one_does_too(capsysbinary):
    output = Output()

    def wrote(worker, data):
        output.show({"kind": "output", "worker": worker, "function": "f", "stream": 1, "data": data})

    for worker, data in [("a", "half"), ("b", "other"), ("b", "\n"), ("a", "\n"), ("a", "next"), ("b", "x\n")]:
        wrote(worker, data)
    wrote("a", "\n")
    output.flush()
    assert capsysbinary.readouterr().out == b"half\n[f 2] other\n[f 2] x\n[f 1] next\n"
    wrote("c", "50 %")
    wrote("c", "\n")
    wrote("c", "100 %")
    output.flush()
    assert capsysbinary.readouterr().out == b"[f 3] 50 %\n[f 3] 100 %\n"
