"""A pool of workers as model servers have it: a ROUTER hands out tensors, DEALERs work.

Run: python examples/worker_pool/pool.py [--workers 3] [--tasks 60]. Each worker is a
process of its own, started by ``spawn``. What stands here in place of

    socket.send_pyobj(task)             # runs whatever a stranger has pickled
    socket.recv_pyobj()                 # and an HMAC beside it, with one key for all

is ``Fleet`` for the keys, and ``SecureSocket`` for the messages: each worker has a key of
its own, replies open only for their own request, and nothing is unpickled.
"""

from __future__ import annotations

import argparse
import multiprocessing
from typing import Any

import numpy as np
import zmq
from arrays import pack, unpack
from numpy.typing import NDArray

from envelope import Fleet, Member
from envelope.codec import decode_frames, encode_frames
from envelope.zeromq import Request, SecureSocket

CONTEXT = "pool.example"
SIDE = 512
"""A task is a matrix of 512 x 512 float32: 1 MiB."""
TIMEOUT_MS = 30_000

Array = NDArray[Any]


def work(secret: str, place: str) -> None:
    """Be a worker: say who is there, then square one matrix after the other."""
    member = Member.parse(secret)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.rcvtimeo, socket.linger = TIMEOUT_MS, 1000
        socket.connect(place)
        secure = SecureSocket(
            socket,
            sealer=member.sealer(CONTEXT, to=["router"]),
            opener=member.opener(CONTEXT),
        )
        secure.send(b"ready")
        while True:
            message = secure.recv()
            if message.payload == b"stop":
                return
            task = unpack(message.frames())
            secure.reply(message, encode_frames(pack(task @ task)))


def dispatch(
    router: SecureSocket, tasks: list[Array], workers: int
) -> tuple[list[Array], dict[str, int]]:
    """Hand out tasks to whoever is free; return the results in order, and who did how many."""
    routes = {}
    while len(routes) < workers:
        hello = router.recv()
        routes[hello.sender.name] = hello.route
    results: list[Array | None] = [None] * len(tasks)
    done = dict.fromkeys(routes, 0)
    waiting = list(enumerate(tasks))
    busy: dict[str, tuple[int, Request]] = {}
    while waiting or busy:
        for name, route in routes.items():
            if name not in busy and waiting:
                number, task = waiting.pop(0)
                busy[name] = number, router.send_request(encode_frames(pack(task)), route=route)
        # The first that was asked; the others come in meanwhile.
        name, (number, request) = next(iter(busy.items()))
        reply = router.wait(request, timeout=TIMEOUT_MS)
        assert reply.sender.name == name
        results[number] = unpack(decode_frames(reply.payload))
        done[name] += 1
        del busy[name]
    for route in routes.values():
        router.send(b"stop", route=route)
    return [result for result in results if result is not None], done


def main() -> None:
    """Run the pool, and check every result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=60)
    options = parser.parse_args()

    names = [f"worker-{number}" for number in range(options.workers)]
    fleet = Fleet.generate(["router", *names], contexts=[CONTEXT])
    router = fleet["router"]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.rcvtimeo, socket.linger = TIMEOUT_MS, 1000
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        secure = SecureSocket(
            socket,
            sealer=router.sealer(CONTEXT, to=names),
            opener=router.opener(CONTEXT),
        )
        spawn = multiprocessing.get_context("spawn")
        children = [
            spawn.Process(target=work, args=(fleet.hand_out(name), f"tcp://127.0.0.1:{port}"))
            for name in names
        ]
        for child in children:
            child.start()
        dice = np.random.default_rng(7)
        tasks = [dice.random((SIDE, SIDE), np.float32) for _ in range(options.tasks)]
        results, done = dispatch(secure, tasks, options.workers)
        for child in children:
            child.join()
    right = sum(
        np.allclose(task @ task, result) for task, result in zip(tasks, results, strict=True)
    )
    print(f"{right} of {len(tasks)} results are right; refused: {dict(secure.stats.refused)}")
    for name, count in sorted(done.items()):
        print(f"{name} did {count}")


if __name__ == "__main__":
    main()
