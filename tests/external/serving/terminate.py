"""SIGTERM under load: every accepted request is answered or told, and the server ends in time.

    python tests/external/serving/terminate.py target/debug/xtask
"""

import argparse
import http.client
import signal
import threading
import time

from server import Refused, serving, text_of

GRACE = 3.0


def ask(server, number, stream, results):
    body = {
        "model": "base",
        "messages": [{"role": "user", "content": "How do I brew tea?"}],
        "max_tokens": 900,
        "temperature": 2.0,
        "seed": number,
        "stream": stream,
    }
    try:
        if not stream:
            status, _, answer = server.post("/v1/chat/completions", body)
            results.append("answered" if status == 200 else answer["error"]["code"])
            return
        events = list(server.stream("/v1/chat/completions", body))
        last = events[-1][1]
        if "error" in last:
            results.append(last["error"]["code"])
        else:
            assert last["choices"][0]["finish_reason"] and text_of(events)
            results.append("answered")
    except Refused as refused:
        results.append(refused.body["error"]["code"])
    except (ConnectionError, http.client.HTTPException) as error:
        results.append(f"lost: {error!r}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    args = parser.parse_args()
    grace = ["--set", f"connections.grace_seconds={GRACE}"]
    with serving(args.program, *grace, env={"RUST_LOG": "warn"}) as server:
        results = []
        threads = [
            threading.Thread(target=ask, args=(server, number, number % 2 == 0, results))
            for number in range(100)
        ]
        [thread.start() for thread in threads]
        time.sleep(1.0)
        start = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(timeout=GRACE + 5)
        seconds = time.perf_counter() - start
        [thread.join() for thread in threads]
        counts = {result: results.count(result) for result in sorted(set(results))}
        print(f"exit code {code} after {seconds:.2f} s (grace time {GRACE} s): {counts}")
        assert code == 0 and seconds < GRACE + 0.5
        assert set(counts) <= {"answered", "shutting_down"}, counts


if __name__ == "__main__":
    main()
