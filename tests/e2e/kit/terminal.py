"""A program on a terminal that wraps its lines anew when its width changes: a window of tmux, driven in control mode
(tmux(1)), in which every output of the program is an event."""
import subprocess

from .process import DEADLINE_S, Lines, die_with_parent


class Terminal:
    def __init__(self, box, argv, columns=120, rows=24):
        self.rows, self.seen = rows, 0
        self.argv = ["tmux", "-S", box.file(box.unique("tmux")), "-f", "/dev/null", "-C"]
        # It waits until the window has its size, and begins at the bottom as in a terminal that has been in use: tmux
        # takes the empty rows below the cursor for text, and would move what stands above them out of sight when
        # wrapping makes it longer.
        gate = (f'trap : INT; read -r go; i=0; while [ $i -lt {rows} ]; do echo; i=$((i + 1)); done; '
                '"$@"; echo "status $?"; read -r go')
        self.popen = subprocess.Popen([*self.argv, "new-session", "-x", str(columns), "-y", str(rows), "sh", "-c", gate,
                                       "sh",
                                       *[str(a) for a in argv]], env={**box.env, "TERM": "screen"},
                                       stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.lines = Lines(self.popen.stdout)
        box.closers.append(self.close)
        self.answer()                # to new-session
        self.command("set-option destroy-unattached on")   # nothing outlives the test, whatever ends it
        self.resize(columns)
        self.keys("Enter")

    def take(self, wanted):
        """The lines up to the first not yet taken for which wanted(line) holds."""
        start = self.seen
        line = self.lines.wait(lambda l, count=iter(range(1 << 30)): next(count) >= start and wanted(l))
        with self.lines.changed:
            self.seen = self.lines.lines.index(line, start) + 1
            return self.lines.lines[start:self.seen]

    def answer(self):
        return self.take(lambda l: l.startswith(("%end", "%error")))

    def command(self, text):
        self.popen.stdin.write(text.encode() + b"\n")
        self.popen.stdin.flush()
        lines = self.answer()
        assert lines[-1].startswith("%end"), lines
        begin = max(i for i, l in enumerate(lines) if l.startswith("%begin"))
        return lines[begin + 1:-1]

    def resize(self, columns):
        self.command(f"refresh-client -C {columns}x{self.rows}")

    def keys(self, name):
        self.command(f"send-keys {name}")

    def screen(self):
        """Its rows, those that have scrolled away included, without those that are empty."""
        return [row.rstrip() for row in self.command("capture-pane -p -S -") if row.strip()]

    def wait_output(self, text):
        self.take(lambda l: l.startswith("%output") and text in l)

    def wait_exit(self, status):
        self.wait_output(f"status {status}")

    def close(self):
        if self.popen.poll() is None:
            self.popen.stdin.write(b"kill-server\n")
            self.popen.stdin.close()
            self.popen.wait(DEADLINE_S)
