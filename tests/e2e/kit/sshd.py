"""Debian's sshd, where it may not be installed."""
import os


def sshd_command(box):
    """The installed one, or the one unpacked below .cache/root. It wants a user named sshd, which an unpacked one has
    not brought: then it gets a list of users of its own, in a mount namespace."""
    unpacked = os.path.join(os.path.dirname(__file__), "../../../.cache/root/usr/sbin/sshd")
    program = "/usr/sbin/sshd" if os.path.exists("/usr/sbin/sshd") else os.path.abspath(unpacked)
    with open("/etc/passwd") as f:
        users = f.read()
    if "\nsshd:" in users:
        return [program]
    own = box.file("passwd", users + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n", mode=0o644)
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', own, program]
