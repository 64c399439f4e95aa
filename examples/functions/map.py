"""A thousand inputs, spread over the containers that this machine has room for.

    adit run examples/functions/map.py --count 1000

Each container is used for many inputs, one at a time; results come in the order of the inputs.
"""

from adit import App

app = App("map")


@app.function(cpu=(0.5, 1), concurrency_limit=4, retries=2)
def factor(n: int) -> list[int]:
    factors, divisor = [], 2
    while n > 1:
        while n % divisor == 0:
            factors.append(divisor)
            n //= divisor
        divisor += 1
    return factors


@app.local_entrypoint()
def main(count: int = 1000):
    numbers = range(10_000, 10_000 + count)
    primes = [n for n, factors in zip(numbers, factor.map(numbers)) if factors == [n]]
    print(f"{len(primes)} of {count} are prime, the last is {primes[-1]}")
