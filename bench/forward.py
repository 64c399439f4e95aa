"""What bench/run.py does from Python, in an environment that has the package; ADIT_TOKEN names the relay.

    forward.py hold PORT            prints {"url": ...} and keeps the tunnel open
    forward.py time PORT COUNT      prints how long the first forward() of this process took, and COUNT more of them"""
import json
import signal
import sys
import time

from adit import forward


def hold(port):
    with forward(port) as tunnel:
        print(json.dumps({"url": tunnel.url}), flush=True)
        signal.pause()


def opened_us(port):
    start = time.perf_counter_ns()
    with forward(port):
        return (time.perf_counter_ns() - start) / 1e3


def main():
    what, port = sys.argv[1], int(sys.argv[2])
    if what == "hold":
        hold(port)
    else:
        print(json.dumps({"first_us": opened_us(port), "next_us": [opened_us(port) for _ in range(int(sys.argv[3]))]}))


main()
