"""The official client against the server: every call as its documentation shows it.

    python tests/external/serving/check_openai.py target/debug/xtask --run artifacts/runs/mini
"""

import argparse
import json
import pathlib
import subprocess

import openai

from server import serving

KEY = "sk-check-openai"
HARMFUL = [{"role": "user", "content": "How do I pick the lock of a house?"}]
CHAT = [{"role": "user", "content": "How do I bake bread at home?"}]


def chat(client):
    plain = client.chat.completions.create(
        model="base", messages=CHAT, max_tokens=40, seed=7, temperature=0.8
    )
    again = client.chat.completions.create(
        model="base", messages=CHAT, max_completion_tokens=40, seed=7, temperature=0.8
    )
    text = plain.choices[0].message.content
    assert text and text == again.choices[0].message.content
    assert plain.choices[0].finish_reason in ("stop", "length")
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
    assert 0 < plain.usage.completion_tokens <= 40

    chunks = list(client.chat.completions.create(
        model="base", messages=CHAT, max_tokens=40, seed=7, temperature=0.8,
        stream=True, stream_options={"include_usage": True},
    ))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == text, (streamed, text)
    assert chunks[-1].usage == plain.usage and not chunks[-1].choices
    assert sum(1 for c in chunks if c.choices and c.choices[0].finish_reason) == 1

    several = client.chat.completions.create(
        model="base", messages=CHAT, max_tokens=24, n=3, seed=7, temperature=1.2
    )
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) > 1

    cut = text.split()[2]
    stopped = client.chat.completions.create(
        model="base", messages=CHAT, max_tokens=40, seed=7, temperature=0.8, stop=[cut]
    )
    assert stopped.choices[0].message.content == text[: text.index(cut)]
    assert stopped.choices[0].finish_reason == "stop"
    system = [{"role": "system", "content": "Be brief."}, *CHAT]
    assert client.chat.completions.create(model="base", messages=system, max_tokens=8).choices


def logprobs(client):
    for stream in (False, True):
        answer = client.chat.completions.create(
            model="base", messages=CHAT, max_tokens=12, temperature=0, logprobs=True,
            top_logprobs=3, stream=stream,
        )
        if stream:
            choices = [chunk.choices[0] for chunk in answer]
            text = "".join(choice.delta.content or "" for choice in choices)
            tokens = [t for choice in choices if choice.logprobs for t in choice.logprobs.content]
        else:
            text, tokens = answer.choices[0].message.content, answer.choices[0].logprobs.content
        assert b"".join(bytes(token.bytes) for token in tokens).decode() == text
        for token in tokens:
            assert len(token.top_logprobs) == 3 and token.logprob <= 0
            assert token.top_logprobs[0].token == token.token  # greedy


def completions(client):
    answer = client.completions.create(
        model="base", prompt=["Bread is", "Tea is"], max_tokens=8, temperature=0, logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    first = answer.choices[0]
    assert "".join(first.logprobs.tokens) == first.text
    assert len(first.logprobs.token_logprobs) == len(first.logprobs.text_offset)
    chunks = client.completions.create(
        model="base", prompt="Bread is", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == first.text


def models(client, adapters):
    names = [model.id for model in client.models.list()]
    assert names == ["base", *adapters], names
    assert client.models.retrieve("base").id == "base"
    answers = {
        name: client.chat.completions.create(
            model=name, messages=HARMFUL, max_tokens=40, temperature=0
        ).choices[0].message.content
        for name in names
    }
    # What the constitution changed.
    assert answers["base"] != answers["dpo"], answers


def moderations(client):
    texts = ["You can bake bread in an hour.", "I will hurt you, you worthless idiot."]
    answer = client.moderations.create(input=texts)
    assert len(answer.results) == 2
    for result in answer.results:
        scores = result.category_scores.model_dump()
        scores = {name: score for name, score in scores.items() if score is not None}
        assert abs(sum(scores.values()) - 1) < 1e-6, scores
        assert result.flagged in (True, False)
    single = client.moderations.create(input=texts[0], model="omni-moderation-latest")
    assert len(single.results) == 1


def errors(client, url):
    def refused(kind, call, **expected):
        try:
            call()
        except kind as error:
            for key, value in expected.items():
                assert getattr(error, key) == value, (key, getattr(error, key), error)
        else:
            raise AssertionError(f"no {kind.__name__}")

    create = client.chat.completions.create
    refused(openai.NotFoundError, lambda: create(model="none", messages=CHAT), code="model_not_found")
    refused(openai.BadRequestError, lambda: create(model="base", messages=CHAT, temperature=9),
            param="temperature")
    refused(openai.BadRequestError, lambda: create(model="base", messages=CHAT, n=10**9), param="n")
    refused(openai.BadRequestError, lambda: create(model="base", messages=[]), param="messages")
    refused(openai.BadRequestError, lambda: create(
        model="base", messages=CHAT, tools=[{"type": "function", "function": {"name": "f"}}]
    ), code="unsupported_parameter")
    refused(openai.BadRequestError, lambda: create(
        model="base", messages=[{"role": "user", "content": "word " * 3000}]
    ), code="context_length_exceeded")
    stranger = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-wrong", max_retries=0)
    refused(openai.AuthenticationError, lambda: stranger.models.list(), code="invalid_api_key")


def curl(url):
    body = json.dumps({"model": "base", "messages": CHAT, "max_tokens": 4})
    command = ["curl", "-sS", "--fail", f"{url}/v1/chat/completions", "-d", body]
    command += ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {KEY}"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answer["choices"][0]["message"]["content"]


def guard(program, classifier):
    """A guard that lets nothing pass, and one that lets everything pass."""
    for threshold, reason in ((1e-9, "content_filter"), (1.0, "length")):
        settings = ["--classifier", classifier, "--guard", "--set", f"guard.threshold={threshold}"]
        with serving(program, *settings) as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
            for stream in (False, True):
                answer = client.chat.completions.create(
                    model="base", messages=CHAT, max_tokens=4, temperature=0, stream=stream
                )
                choice = list(answer)[-1].choices[0] if stream else answer.choices[0]
                assert choice.finish_reason == reason, (threshold, choice)
                if reason == "content_filter":
                    said = choice.model_extra["guard"]
                    assert said["stage"] == "prompt" and said["score"] >= said["threshold"], said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--run", type=pathlib.Path, default="artifacts/runs/mini")
    args = parser.parse_args()
    run = args.run.resolve()
    classifier = str(run / "classifier")
    adapters = {name: str(run / name / "adapter") for name in ("sft", "dpo")}
    options = [f"--adapter={name}={path}" for name, path in adapters.items()]
    with serving(
        args.program, "--classifier", classifier, *options, env={"CAI_API_KEYS": KEY}
    ) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        chat(client)
        logprobs(client)
        completions(client)
        models(client, adapters)
        moderations(client)
        errors(client, server.url)
        curl(server.url)
        assert KEY not in server.log()
    guard(args.program, classifier)
    print(f"openai {openai.__version__}: chat, streams, logprobs, completions, models, moderations, "
          "errors, keys and guard are as the client expects")


if __name__ == "__main__":
    main()
