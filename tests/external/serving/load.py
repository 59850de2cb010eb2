"""Load: many streams at once, each answer compared with the one that it gets alone.

    python tests/external/serving/load.py target/debug/xtask --seconds 300 --streams 64

Clients ask, read to the end, and ask again with another prompt and seed. At the end `--compare` of the
answers, spread evenly, are asked for once more, alone, and compared; where the two differ, the
log-probabilities at the first difference must say that it was a near tie.
"""

import argparse
import json
import math
import re
import socket
import statistics
import threading
import time

from server import QUESTIONS, serving

TOKENS = 64


def request(number):
    """The request of that number: always the same. Every fourth is greedy."""
    question = QUESTIONS[number % len(QUESTIONS)]
    return {
        "model": "base",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "temperature": 0.8 if number % 4 else 0.0,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


CONTENT = re.compile(rb'"delta":\{"content":("(?:[^"\\]|\\.)*")')
ENDED = re.compile(rb'"finish_reason":"(?:stop|length)"')
USED = re.compile(rb'"completion_tokens":(\d+)')


def ask(server, number, connection):
    """Text, tokens, and seconds to the first token.

    The clients share the cores with the server: they take the bytes as they come, and read them when
    the answer is whole.
    """
    start = time.perf_counter()
    body = json.dumps(request(number))
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    first, answer = None, b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, f"answer {number} was cut off: {answer[-300:]}"
        answer += piece
        if first is None and b'"delta":{"content"' in piece:
            first = time.perf_counter() - start
    assert answer.startswith(b"HTTP/1.1 200") and ENDED.search(answer), answer[-300:]
    text = "".join(json.loads(content) for content in CONTENT.findall(answer))
    return text, int(USED.search(answer)[1]), first or time.perf_counter() - start


def client(server, numbers, until, answers, errors):
    try:
        with socket.create_connection((server.host, server.port), timeout=130) as connection:
            while time.perf_counter() < until:
                number = next(numbers)
                answers.append((number, *ask(server, number, connection)))
    except Exception as error:  # told at the end
        errors.append(repr(error))


def run(server, streams, seconds, first_number):
    """Answers of `streams` clients that ask for `seconds`, and the seconds that it took."""
    lock, count = threading.Lock(), iter(range(first_number, 10**9))

    class Numbers:
        def __next__(self):
            with lock:
                return next(count)

    answers, errors = [], []
    start = time.perf_counter()
    arguments = (server, Numbers(), start + seconds, answers, errors)
    threads = [threading.Thread(target=client, args=arguments) for _ in range(streams)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors, errors[:3]
    return answers, time.perf_counter() - start


def memory_samples(server, stop, samples):
    while not stop.wait(1.0):
        samples.append(server.memory())


def alone(server, number):
    """The tokens of an answer that nothing runs beside, with what was nearly as likely."""
    body = {**request(number), "stream": False, "logprobs": True, "top_logprobs": 5}
    del body["stream_options"]
    status, _, answer = server.post("/v1/chat/completions", body)
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["logprobs"]["content"]


def near_tie(tokens, together, temperature):
    """Whether an answer alone leaves the one that was given together at a near tie.

    Greedy: the two most likely tokens there are close. Sampled: the draw's point lies close to the
    border of a token's share; that cannot be seen from here, so the two tokens must at least both be
    likely.
    """
    seen = ""
    for token in tokens:
        if not together.startswith(seen + token["token"]):
            top = token["top_logprobs"]
            if temperature == 0:
                return top[0]["logprob"] - top[1]["logprob"] < 1e-3
            rest = together[len(seen):]
            return any(rest.startswith(other["token"]) for other in top if other["token"] != token["token"])
        seen += token["token"]
    return False


def compare(server, answers, limit):
    """How many answers are the same alone, how many differ at a near tie, and the others."""
    same, ties, wrong = 0, 0, []
    chosen = answers if len(answers) <= limit else answers[:: math.ceil(len(answers) / limit)]
    for number, text, _, _ in chosen:
        single, tokens = alone(server, number)
        if single == text:
            same += 1
        elif near_tie(tokens, text, request(number)["temperature"]):
            ties += 1
        else:
            wrong.append((number, single, text))
    return same, ties, wrong


def overload(server, capacity):
    """Three times as many as there are places, at once."""
    results = []
    body = {**request(0), "max_tokens": 128, "n": 1, "stream": False, "temperature": 1.0}
    del body["stream_options"]

    def one(number):
        start = time.perf_counter()
        status, headers, answer = server.post("/v1/chat/completions", {**body, "seed": number})
        results.append((status, headers.get("Retry-After"), time.perf_counter() - start, answer))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(3 * capacity)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    served = [result for result in results if result[0] == 200]
    refused = [result for result in results if result[0] == 429]
    assert len(served) + len(refused) == len(results), {result[0] for result in results}
    assert refused and len(served) >= capacity
    assert all(retry and answer["error"]["code"] == "queue_full" for _, retry, _, answer in refused)
    waits = sorted(seconds for _, _, seconds, _ in refused)
    return len(served), len(refused), waits[len(waits) // 2], waits[-1]


def percentile(numbers, share):
    return sorted(numbers)[min(len(numbers) - 1, math.ceil(share * len(numbers)) - 1)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--compare", type=int, default=400, help="answers asked for again, alone")
    args = parser.parse_args()
    with serving(args.program, env={"RUST_LOG": "warn"}) as server:
        run(server, 1, 2, 10**8)  # warm
        one, one_seconds = run(server, 1, min(15.0, args.seconds / 4), 2 * 10**8)
        single = sum(tokens for _, _, tokens, _ in one) / one_seconds

        stop, memory = threading.Event(), []
        watch = threading.Thread(target=memory_samples, args=(server, stop, memory))
        watch.start()
        answers, seconds = run(server, args.streams, args.seconds, 0)
        stop.set()
        watch.join()
        together = sum(tokens for _, _, tokens, _ in answers) / seconds
        numbers = sorted(number for number, *_ in answers)
        assert numbers == list(range(len(numbers))), "an answer was lost"

        same, ties, wrong = compare(server, answers, args.compare)
        firsts = [first for *_, first in answers]
        minute = max(1, min(60, len(memory) // 3))
        begin, end = statistics.mean(memory[:minute]), statistics.mean(memory[-minute:])
        served, refused, median, slowest = overload(server, 128)
        report = {
            "streams": args.streams,
            "seconds": round(seconds, 1),
            "answers": len(answers),
            "tokens_per_answer": round(statistics.mean(tokens for _, _, tokens, _ in answers), 1),
            "tokens_per_second": round(together, 1),
            "tokens_per_second_of_one_stream": round(single, 1),
            "ratio": round(together / single, 2),
            "first_token_seconds": {
                "median": round(statistics.median(firsts), 3),
                "p95": round(percentile(firsts, 0.95), 3),
                "most": round(max(firsts), 3),
            },
            "compared": {"same": same, "near_ties": ties, "wrong": len(wrong)},
            "memory_mib": {
                "first": round(begin / 2**20, 1),
                "last": round(end / 2**20, 1),
                "change": round(end / begin - 1, 4),
            },
            "overload": {
                "served": served,
                "refused": refused,
                "refusal_seconds_median": round(median, 3),
                "refusal_seconds_most": round(slowest, 3),
            },
        }
        print(json.dumps(report, indent=2))
        for number, single_text, text in wrong[:3]:
            print(f"{number}:\n  alone    {single_text!r}\n  together {text!r}")
        assert not wrong


if __name__ == "__main__":
    main()
