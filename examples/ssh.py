"""ssh and scp into this container, over a raw port and, where only port 443 gets out, over TLS.

    python examples/ssh.py [PUBLIC_KEY]

Needs sshd (apt-get install openssh-server). PUBLIC_KEY is a file such as ~/.ssh/id_ed25519.pub, whose owner may log in;
without it a key is made for this run. Prints the commands to use; on another machine, copy the folder that they name
there first.
"""
import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile

from adit import Client

PORT = 2222
sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin") or sys.exit(
    "sshd: not found (apt-get install openssh-server)"
)
client = Client()


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    with open(path + ".pub") as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder, \
        client.forward(PORT, unencrypted=True) as tunnel:
    host_key = make_key(f"{folder}/host")
    if len(sys.argv) > 1:
        identity = ""
        with open(sys.argv[1]) as file:
            write(f"{folder}/authorized_keys", file.read())
    else:
        identity = f"-i {folder}/key -o IdentitiesOnly=yes "
        write(f"{folder}/authorized_keys", make_key(f"{folder}/key"))

    # The visitor knows the host key beforehand, by a name of its own that does not depend on the way taken.
    write(f"{folder}/known_hosts", f"adit-ssh {host_key}")
    options = f"{identity}-o UserKnownHostsFile={folder}/known_hosts -o HostKeyAlias=adit-ssh"

    (host, port), (tls_host, tls_port) = tunnel.tcp_socket, tunnel.tls_socket
    # The name of an embedded relay means nothing to openssl, nor does its authority.
    to, trust = ("127.0.0.1", f"-CAfile {client.ca_file} ") if client.ca_file else (tls_host, "")
    tls = (f"openssl s_client -quiet -verify_return_error {trust}-verify_hostname {tls_host} -servername {tls_host} "
           f"-connect {to}:{tls_port}")
    user = getpass.getuser()
    print(f"ssh {options} -p {port} {user}@{host}")
    print(f"scp {options} -P {port} FILE {user}@{host}:")
    print(f"ssh {options} -o ProxyCommand='{tls}' {user}@{tls_host}")
    print(f"scp {options} -o ProxyCommand='{tls}' FILE {user}@{tls_host}:", flush=True)

    write(f"{folder}/sshd_config", f"""
        ListenAddress 127.0.0.1
        Port {PORT}
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/authorized_keys
        StrictModes no
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PidFile none
        Subsystem sftp internal-sftp
    """)
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)     # where sshd locks up what it does before a login
    sys.exit(subprocess.run([sshd, "-D", "-e", "-f", f"{folder}/sshd_config"]).returncode)
