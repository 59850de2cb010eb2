"""Starts the real server on a free port, for the checks beside this file."""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Server:
    """A running server; its log is a file that checks may read."""

    def __init__(self, program, *args, env=None):
        self.log_path = pathlib.Path(tempfile.mkstemp(suffix=".log")[1])
        command = [str(pathlib.Path(program).resolve()), "-v", "serve", "--port", "0", *args]
        environment = {**os.environ, "RUST_LOG": "debug", **(env or {})}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), line + self.log()
        self.host, port = line.split("//")[1].strip().rsplit(":", 1)
        self.port = int(port)
        self.url = f"http://{self.host}:{self.port}"
        while self.get("/readyz")[0] != 200:
            time.sleep(0.02)

    def connection(self, timeout=130):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def get(self, path):
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def post(self, path, body, headers=None, connection=None):
        """Status, headers and JSON of the answer to a JSON body."""
        used = connection or self.connection()
        headers = {"Content-Type": "application/json", **(headers or {})}
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        used.request("POST", path, body=body, headers=headers)
        response = used.getresponse()
        text = response.read()
        if connection is None:
            used.close()
        return response.status, response.headers, json.loads(text)

    def stream(self, path, body, connection=None):
        """The events of a streamed answer, each with the second at which it came."""
        used = connection or self.connection()
        used.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = used.getresponse()
        if response.status != 200:
            raise Refused(response.status, response.headers, json.loads(response.read()))
        for line in response:
            if line.startswith(b"data: "):
                data = line[6:].strip()
                if data == b"[DONE]":
                    response.read()
                    break
                yield time.perf_counter(), json.loads(data)
        if connection is None:
            used.close()

    def metric(self, name):
        """The sum over all labels."""
        lines = self.get("/metrics")[1].splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def memory(self):
        """Bytes that the process holds."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=60)
        self.log_path.unlink()
        return code


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status}: {body}")
        self.status, self.headers, self.body = status, headers, body


@contextlib.contextmanager
def serving(program, *args, env=None):
    server = Server(program, *args, env=env)
    try:
        yield server
    finally:
        server.stop()


def text_of(events):
    """The text of a streamed chat with one answer."""
    pieces = (choice for _, event in events for choice in event["choices"])
    return "".join(choice["delta"].get("content", "") for choice in pieces)


QUESTIONS = [
    "How do I bake bread at home?",
    "How do I sleep on a night train?",
    "How do I brew tea?",
    "How do I fold a map?",
    "How do I plant a bulb?",
    "How do I dry herbs?",
    "What should I know about keeping bees?",
    "How do I mend a net?",
    "How do I pick the lock of a house?",
    "Tell me how to grow tomatoes on a balcony.",
]
