"""Throughput of moderations, beside `classifier predict` on the same texts.

    python tests/external/serving/moderate.py target/debug/xtask --run artifacts/runs/mini
"""

import argparse
import json
import pathlib
import queue
import statistics
import subprocess
import tempfile
import threading
import time

from server import serving


def texts_of(run, count):
    """Requests of the run's evaluation, as often as needed, each a little different."""
    lines = (run / "evaluate" / "responses.jsonl").read_text().splitlines()
    texts = [json.loads(line)["request"] for line in lines]
    return [f"{i}: {texts[i % len(texts)]}" for i in range(count)]


def predict(program, classifier, texts):
    """Seconds of the command line per text: a long file less a short one, so that loading is out."""
    seconds = []
    for part in (texts[:64], texts):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in part)
            file.flush()
            command = [program, "classifier", "predict", "--model", classifier]
            command += ["--input", file.name, "--output", file.name + ".out"]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
            predictions = [json.loads(line) for line in pathlib.Path(command[-1]).open()]
            pathlib.Path(command[-1]).unlink()
    return (len(texts) - 64) / (seconds[1] - seconds[0]), predictions


def moderate(server, texts, per_request, clients):
    """Texts per second over HTTP, and the scores."""
    work, scores = queue.SimpleQueue(), {}
    for begin in range(0, len(texts), per_request):
        work.put((begin, json.dumps({"input": texts[begin : begin + per_request]})))

    def client():
        connection = server.connection()
        while True:
            try:
                begin, body = work.get_nowait()
            except queue.Empty:
                return
            status, _, answer = server.post("/v1/moderations", body, connection=connection)
            assert status == 200, answer
            scores[begin] = [result["category_scores"] for result in answer["results"]]

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    seconds = time.perf_counter() - start
    return len(texts) / seconds, [score for begin in sorted(scores) for score in scores[begin]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--run", type=pathlib.Path, default="artifacts/runs/mini")
    parser.add_argument("--texts", type=int, default=20_000)
    args = parser.parse_args()
    classifier = str((args.run / "classifier").resolve())
    texts = texts_of(args.run, args.texts)
    rates = {"predict": [], "server": []}
    with serving(args.program, "--classifier", classifier, env={"RUST_LOG": "warn"}) as server:
        for _ in range(3):
            rate, predictions = predict(args.program, classifier, texts)
            rates["predict"].append(rate)
            rate, scores = moderate(server, texts, 512, 4)
            rates["server"].append(rate)
            for prediction, score in zip(predictions, scores, strict=True):
                for label, p in prediction["scores"].items():
                    assert abs(score[label] - p) < 1e-4, (prediction, score)
        single, _ = moderate(server, texts[:2000], 1, 32)
    predict_rate, server_rate = (statistics.median(rates[name]) for name in ("predict", "server"))
    print(f"classifier predict: {predict_rate:.0f} texts/s; /v1/moderations: {server_rate:.0f} texts/s "
          f"({server_rate / predict_rate:.2f}) with 512 texts a request and 4 clients; {single:.0f} "
          "texts/s with one text a request and 32 clients")
    assert server_rate >= 0.9 * predict_rate


if __name__ == "__main__":
    main()
