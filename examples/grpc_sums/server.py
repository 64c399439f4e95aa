"""A gRPC server behind a tunnel that offers HTTP/2, which gRPC insists on.

    python examples/grpc_sums/server.py

Needs pip install grpcio grpcio-tools. Prints the client's command.
"""
import concurrent.futures
import contextlib

import grpc

from adit import forward

PORT = 50051
messages, services = grpc.protos_and_services("sums.proto")


class Sums(services.SumsServicer):
    def Add(self, numbers, context):
        return messages.Number(value=sum(numbers.values))

    def Running(self, numbers, context):
        total = 0
        for number in numbers:
            total += number.value
            yield messages.Number(value=total)


server = grpc.server(concurrent.futures.ThreadPoolExecutor())
services.add_SumsServicer_to_server(Sums(), server)
server.add_insecure_port(f"127.0.0.1:{PORT}")
server.start()
with contextlib.suppress(KeyboardInterrupt), forward(PORT, h2_enabled=True) as tunnel:
    print(f"python examples/grpc_sums/client.py {tunnel.host}:{tunnel.port}", flush=True)
    server.wait_for_termination()
