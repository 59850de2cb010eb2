"""Abuse: malformed requests, slow and huge ones, clients that vanish, guessed keys.

    python tests/external/serving/abuse.py target/debug/xtask --requests 10000

Afterwards the server must still serve, hold no more memory, have logged no secret, and have nothing
running.
"""

import argparse
import json
import random
import socket
import string
import threading
import time

from server import serving

KEY = "sk-abuse-" + "".join(random.Random(1).choices(string.ascii_letters, k=24))
SECRET = "a-secret-that-a-user-wrote"
AUTH = f"Authorization: Bearer {KEY}\r\n"
GOOD = {"model": "base", "messages": [{"role": "user", "content": f"Hello {SECRET}"}], "max_tokens": 4}
PATHS = [
    "/v1/chat/completions", "/v1/completions", "/v1/moderations", "/v1/models", "/v1/models/%00",
    "/", "/metrics", "/healthz", "/../../etc/passwd", "/v1/%ff", "//", "/playground/info", "*",
]
VALUES = [
    None, True, -1, 0, 1e308, 10**30, "", "x" * 5000, "\u0000", "😀" * 50, [], {}, [[]], [None],
    {"a": {"b": []}}, -0.0, 2**63, "NaN", [1e9] * 20, ["a"] * 100,
]
FIELDS = [
    "model", "messages", "prompt", "input", "n", "max_tokens", "temperature", "top_p", "top_k",
    "stop", "stream", "stream_options", "logprobs", "top_logprobs", "seed", "tools", "unknown",
    "logit_bias", "response_format",
]


def send(server, data, whole=True, timeout=10.0):
    """Sends raw bytes, and returns the status of the answer, or none. Nothing follows bytes that are
    no whole request, and the server need not wait for more."""
    with socket.create_connection((server.host, server.port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            if not whole:
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(64)
        except OSError:
            return None
    parts = answer.split(b" ")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def http(path, body, method="POST", headers=AUTH, kind="application/json"):
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}"
    head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode(errors="surrogateescape") + body


def malformed(rng):
    """One request that is wrong in some way, and whether all of it is there."""
    kind = rng.randrange(8)
    return wrong(rng, kind), kind not in (3, 6)


def wrong(rng, kind):
    body = json.dumps(GOOD).encode()
    if kind == 0:  # a field of another kind
        value = {**GOOD, rng.choice(FIELDS): rng.choice(VALUES), rng.choice(FIELDS): rng.choice(VALUES)}
        return http(rng.choice(PATHS[:3]), json.dumps(value).encode())
    if kind == 1:  # flipped bytes: broken JSON, invalid UTF-8
        body = bytearray(body)
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        return http(rng.choice(PATHS[:3]), bytes(body))
    if kind == 2:  # cut off
        return http(PATHS[0], body[: rng.randrange(len(body))])
    if kind == 3:  # a broken head
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 4:  # another method, path or type
        method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "OPTIONS"])
        kind = rng.choice(["text/plain", "", "application/xml", "application/json"])
        return http(rng.choice(PATHS), body, method, kind=kind)
    if kind == 5:  # deep nesting
        depth = rng.randrange(10, 20000)
        return http(PATHS[0], b'{"messages":' + b"[" * depth + b"]" * depth + b"}")
    if kind == 6:  # a length that is a lie
        return http(PATHS[0], body).replace(
            b"Content-Length: ", rng.choice([b"Content-Length: 9", b"Content-Length: -", b"X: "])
        )
    header = "X-Junk: " + "j" * rng.randrange(1, 60000) + "\r\n"
    return http(PATHS[0], body, headers=AUTH + header)


def fuzz(server, count):
    statuses, lock = {}, threading.Lock()

    def worker(seed):
        rng = random.Random(seed)
        for _ in range(count // 8):
            status = send(server, *malformed(rng))
            with lock:
                statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    bad = {status for status in statuses if status is not None and status >= 500 and status != 505}
    assert not bad, statuses
    return dict(sorted(statuses.items(), key=lambda item: item[0] or 0))


def slow_loris(server):
    """Connections that send their head, or their body, a byte at a time."""
    head = http(PATHS[0], json.dumps(GOOD).encode())
    connections = []
    for i in range(200):
        connection = socket.create_connection((server.host, server.port))
        connection.sendall(head[:20] if i % 2 else head[: head.index(b"\r\n\r\n") + 8])
        connections.append(connection)
    start = time.perf_counter()
    serves(server)
    while time.perf_counter() - start < 6:
        for connection in connections:
            try:
                connection.send(b"x")
            except OSError:
                pass
        serves(server)
        time.sleep(0.5)
    open_now = server.metric("cai_connections")
    [connection.close() for connection in connections]
    assert open_now < 20, f"{open_now} slow connections are still open"


def huge(server):
    """Bodies of 100 MB, declared and chunked."""
    declared = http(PATHS[0], b"").replace(b"Content-Length: 0", b"Content-Length: 104857600")
    chunked = http(PATHS[0], b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    statuses = []
    for head, piece in ((declared, b"x" * 65536), (chunked, b"10000\r\n" + b"x" * 65536 + b"\r\n")):
        with socket.create_connection((server.host, server.port), timeout=10) as connection:
            sent = 0
            try:
                connection.sendall(head)
                while sent < 100 * 2**20:
                    connection.sendall(piece)
                    sent += len(piece)
            except OSError:
                pass
            try:
                statuses.append(connection.recv(64).split(b" ")[1])
            except (OSError, IndexError):
                statuses.append(b"closed")
            assert sent < 30 * 2**20, f"{sent} bytes were taken"
    assert set(statuses) <= {b"413", b"closed"}, statuses
    return [status.decode() for status in statuses]


def vanish(server):
    """Clients that go at every stage of a stream."""
    body = {**GOOD, "max_tokens": 512, "stream": True, "temperature": 1.5}
    whole = http(PATHS[0], json.dumps(body).encode()).replace(b"Connection: close\r\n", b"")
    for i in range(200):
        connection = socket.create_connection((server.host, server.port), timeout=10)
        if i % 4 == 0:
            connection.sendall(whole[: len(whole) * (i % 97) // 97])
        else:
            connection.sendall(whole)
            wanted = (i % 4 - 1) * 400
            while wanted > 0:
                got = connection.recv(wanted)
                if not got:
                    break
                wanted -= len(got)
        if i % 2:  # with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    until = time.perf_counter() + 5
    while server.metric("cai_running") + server.metric("cai_queue_length") > 0:
        assert time.perf_counter() < until, "answers to clients that have gone still run"
        time.sleep(0.1)


def guess_keys(server):
    """Wrong keys, some nearly right."""
    guesses = ["", "x", KEY[:-1], KEY + "x", KEY.lower(), "Bearer " + KEY, "\x80" * 20, "k" * 6000]
    for i in range(1000):
        guess = guesses[i % len(guesses)]
        headers = f"Authorization: Bearer {guess}\r\n" if i % 9 else ""
        status = send(server, http(PATHS[0], json.dumps(GOOD).encode(), headers=headers))
        assert status in (400, 401), (guess, status)


def serves(server):
    start = time.perf_counter()
    status, _, answer = server.post(PATHS[0], GOOD, {"Authorization": f"Bearer {KEY}"})
    assert status == 200 and answer["choices"], answer
    assert time.perf_counter() - start < 5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--requests", type=int, default=10_000)
    args = parser.parse_args()
    settings = ["--set", "connections.header_seconds=2", "--set", "connections.body_seconds=2"]
    with serving(args.program, *settings, env={"CAI_API_KEYS": KEY}) as server:
        serves(server)
        fuzz(server, args.requests // 5)  # so that buffers and threads are there
        vanish(server)
        before = server.memory()
        statuses = fuzz(server, args.requests)
        slow_loris(server)
        sizes = huge(server)
        vanish(server)
        guess_keys(server)
        serves(server)
        after = server.memory()
        log = server.log()
        for secret in (KEY, KEY[:-1], SECRET):
            assert secret not in log, "a secret is in the log"
        assert "panicked" not in log
        print(f"{args.requests} malformed requests: {statuses}")
        print(f"bodies of 100 MB: {sizes}; 200 slow connections were closed; 400 clients vanished")
        print(f"memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after")
        assert after < before * 1.05, "memory grew"


if __name__ == "__main__":
    main()
