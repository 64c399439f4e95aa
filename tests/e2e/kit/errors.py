"""The form of every error that a user sees: `adit: what: why (what to do)`."""
import re

FORM = re.compile(r"^adit: .+: .+ \(.+\)$")


def expect_error(done, status, *words):
    """The program ended with that exit status and one line of that form, which contains the words. Returns the line."""
    allowed = status if isinstance(status, tuple) else (status,)
    assert done.returncode in allowed, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if FORM.match(line)]
    assert len(lines) == 1, f"not one line of the form 'adit: what: why (what to do)':\n{done.stderr}"
    for word in words:
        assert word.lower() in lines[0].lower(), (word, lines[0])
    return lines[0]
