"""Tells how each visit to its port ends."""
import socket
import struct

from adit import App, forward

app = App()


def play(connection):
    """Echoes until the visitor ends, and then says bye; after "reset" and "last" it is the first to end."""
    while data := connection.recv(100):
        if data == b"reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "was reset"
        if data == b"last":
            connection.sendall(b"word")
            connection.shutdown(socket.SHUT_WR)
            return "end" if not connection.recv(100) else "more"
        connection.sendall(data)
    connection.sendall(b"bye")
    return "end"


@app.function()
def watch(visits: int):
    with socket.create_server(("127.0.0.1", 0)) as listener, forward(listener.getsockname()[1]) as tunnel:
        print(tunnel.url, flush=True)
        for _ in range(visits):
            with listener.accept()[0] as connection:
                try:
                    print(play(connection), flush=True)
                except ConnectionResetError:
                    print("reset", flush=True)
