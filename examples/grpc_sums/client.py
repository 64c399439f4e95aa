"""Uses the server of this folder from anywhere: one call, a stream both ways, and a stream whose every message awaits
an answer.

    python examples/grpc_sums/client.py HOST:PORT

Needs pip install grpcio grpcio-tools. If the relay has an authority of its own, name it by
GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=authority.pem.
"""
import itertools
import queue
import sys
import time

import grpc

COUNT = 10000
messages, services = grpc.protos_and_services("sums.proto")

with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    sums = services.SumsStub(channel)
    print("1 + 2 + 3 =", sums.Add(messages.Numbers(values=[1, 2, 3])).value)

    began = time.monotonic()
    numbers = (messages.Number(value=n) for n in range(COUNT))
    expected = itertools.accumulate(range(COUNT))
    answers = sums.Running(numbers)
    right = sum(answer.value == next(expected) for answer in answers)
    print(f"{right} of {COUNT} sums are right, {time.monotonic() - began:.2f} s")

    began = time.monotonic()
    questions = queue.SimpleQueue()
    answers = sums.Running(iter(questions.get, None))
    total = 0
    for n in range(COUNT // 10):
        questions.put(messages.Number(value=n))
        total += n
        assert next(answers).value == total
    questions.put(None)
    # to its end: a program that leaves a stream may hang in gRPC while Python ends
    assert next(answers, None) is None
    print(f"{COUNT // 10} questions and answers in turn, {time.monotonic() - began:.2f} s")
