"""What the foreman needs does not grow with what it has done: the smaller form of bench/functions.py."""
import json

SLACK_MIB = 6

PROGRAM = """
import json, sys
from adit import App, Queue

CALLS, ROUNDS, ITEMS, MANY = 40, 4, 5000, 500
app = App("wide")


@app.function(concurrency_limit=10, allow_concurrent_inputs=4, memory=32)
def wide(there, go):
    there.put(0)
    return go.get()


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


@app.local_entrypoint()
def main(pid: int):
    calls, items = [], []
    with Queue.ephemeral() as there, Queue.ephemeral() as go:
        for _ in range(ROUNDS):
            under_way = [wide.spawn(there, go) for _ in range(CALLS)]
            for _ in range(CALLS):
                there.get(timeout=120)
            calls.append(memory_mib(pid))
            go.put_many([7] * CALLS)
            assert [call.get(timeout=60) for call in under_way] == [7] * CALLS
    with Queue.ephemeral() as queue:
        for _ in range(ROUNDS):
            for _ in range(ITEMS // MANY):
                queue.put_many([b"x" * 1000] * MANY)
            items.append(memory_mib(pid))
            got = 0
            while got < ITEMS:
                got += len(queue.get_many(MANY))
    print(json.dumps([calls, items]))
"""


def test_calls_in_flight_and_items_of_a_queue_leave_the_foreman_as_large_as_it_was(service, adit, program):
    file = program("wide.py", PROGRAM)
    foreman = {"ADIT_FOREMAN": service.socket, "ADIT_SPARE": "0"}
    run = adit("run", "-q", f"{file}::main", "--pid", str(service.program.pid), env=foreman)
    assert run.wait(300) == 0, run.report()
    calls, items = json.loads(run.out.lines[-1])
    assert calls[-1] < calls[0] + SLACK_MIB, calls
    assert items[-1] < items[0] + SLACK_MIB, items
