"""The shipped toy models: what the files promise, and what they answer on a real llama-server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from llm.demo import CHAT_MODEL, DRAFT_MODEL, TRAINING_LOG, bpe, chat, corpus
from llm.demo.batches import Texts, draw_batch
from llm.demo.recipe import Recipe
from tests.ports import free_port

SITE_PACKAGES = Path(sysconfig.get_path("platlib"))
SERVER = SITE_PACKAGES / "bin" / "llama-server"
START_S = 120.0

ASKED = (
    "What is meshd?",
    "What does meshd do?",
    "Who are you?",
    "Hello",
    "How do I join a mesh?",
    "What is a token?",
    "What is a lite client?",
    "What is bend?",
    "What is a form?",
    "Which forms are there?",
    "What is gossip?",
    "How is the host elected?",
    "What happens when a host dies?",
    "Can I use meshd without a GPU?",
    "Which ports does meshd use?",
    "What is port 9337?",
    "What is port 7842?",
    "What is a split?",
    "What is a draft model?",
    "What is the capital of France?",
    "Count to thirty.",
)


def read_field(path: Path, name: str) -> Any:
    return GGUFReader(path).fields[name].contents()


def read_tokenizer(path: Path) -> bpe.Tokenizer:
    merges = (merge.split(" ") for merge in read_field(path, "tokenizer.ggml.merges"))
    return bpe.Tokenizer(chat.SPECIALS, tuple((left, right) for left, right in merges))


@pytest.mark.parametrize(("path", "most_bytes"), [(CHAT_MODEL, 6_000_000), (DRAFT_MODEL, 2_000_000)])
def test_file_is_small_and_the_one_that_the_log_names(path: Path, most_bytes: int) -> None:
    data = path.read_bytes()
    assert len(data) <= most_bytes
    line = f"file {path.name}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"
    assert line in TRAINING_LOG.read_text(encoding="utf-8").splitlines()


def test_log_says_how_the_models_were_made_and_names_no_place() -> None:
    log = TRAINING_LOG.read_text(encoding="utf-8")
    assert re.search(r"^date \d{4}-\d\d-\d\d$", log, re.MULTILINE)
    assert "torch 2.13.0" in log
    assert len(re.findall(r"^step +\d+/\d+ +loss", log, re.MULTILINE)) >= 10
    assert not re.search(r"(^|\s)/\w+/", log)


@pytest.mark.parametrize("path", [CHAT_MODEL, DRAFT_MODEL])
def test_file_is_a_llama_with_the_chat_template_and_an_end_of_turn(path: Path) -> None:
    assert read_field(path, "general.architecture") == "llama"
    assert read_field(path, "tokenizer.chat_template") == chat.TEMPLATE
    assert read_field(path, "tokenizer.ggml.tokens")[read_field(path, "tokenizer.ggml.eos_token_id")] == chat.END
    assert read_field(path, "llama.context_length") >= 512


@pytest.mark.parametrize("name", ["tokens", "merges", "token_type", "model", "pre", "bos_token_id", "eos_token_id"])
def test_draft_has_the_vocabulary_of_the_chat_model(name: str) -> None:
    assert read_field(DRAFT_MODEL, f"tokenizer.ggml.{name}") == read_field(CHAT_MODEL, f"tokenizer.ggml.{name}")


def test_written_tokenizer_has_the_ids_that_the_file_lists() -> None:
    assert list(read_tokenizer(CHAT_MODEL).tokens) == read_field(CHAT_MODEL, "tokenizer.ggml.tokens")


def test_questions_asked_here_are_written_ones() -> None:
    assert set(ASKED) <= corpus.answers_by_question(corpus.read_entries()).keys()


def test_unseen_phrasings_are_not_trained_on() -> None:
    assert len(corpus.read_unseen(corpus.read_entries())) >= 40


@pytest.mark.parametrize("text", ["What is meshd?", " Zürich\n\n 漢字  🙂 ", "it's 1,234.56 --opt=x\t", chat.TEMPLATE])
def test_decoding_undoes_encoding(text: str) -> None:
    tokenizer = read_tokenizer(CHAT_MODEL)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_are_split_as_gpt2_splits_them() -> None:
    assert list(bpe.split_words("it's  9337x,\n\n no ")) == ["it", "'s", " ", " 9337", "x", ",", "\n\n", " no", " "]


def test_training_merges_the_commonest_pair_first_and_then_the_earlier_one() -> None:
    tokenizer = bpe.train(["abab", "ab", "cd", "ef"], chat.SPECIALS, size=len(chat.SPECIALS) + 256 + 3)
    assert tokenizer.merges == (("a", "b"), ("ab", "ab"), ("c", "d"))


def test_training_refuses_texts_that_are_too_short() -> None:
    with pytest.raises(ValueError, match="too short"):
        bpe.train(["ab"], chat.SPECIALS, size=2000)


def test_only_the_trainer_names_pytorch() -> None:
    naming = {
        path.stem for path in CHAT_MODEL.parent.glob("*.py") if "import torch" in path.read_text(encoding="utf-8")
    }
    assert naming == {"model", "learn", "train"}


def test_only_answers_and_their_ends_are_learnt() -> None:
    tokenizer = read_tokenizer(CHAT_MODEL)
    turns = (corpus.Turn("What?", "That."), corpus.Turn("And?", "No more."))
    sample = chat.render(turns, "Be brief.", tokenizer)
    learnt = [token for token, wanted in zip(sample.tokens, sample.is_target, strict=True) if wanted]
    assert tokenizer.decode(learnt) == "That.<|im_end|>No more.<|im_end|>"


def test_equal_seeds_draw_equal_batches_and_others_do_not() -> None:
    entries = corpus.read_entries()
    texts = Texts(entries, corpus.read_dialogues(entries), corpus.read_paragraphs())
    tokenizer = read_tokenizer(CHAT_MODEL)
    first, again, other = (draw_batch(texts, tokenizer, Random(seed), rows=2, length=256) for seed in (1, 1, 2))
    assert np.array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens, other.tokens)


def test_rows_are_filled_with_whole_samples_up_to_the_last() -> None:
    entries = corpus.read_entries()
    texts = Texts(entries, corpus.read_dialogues(entries), corpus.read_paragraphs())
    batch = draw_batch(texts, read_tokenizer(CHAT_MODEL), Random(5), rows=4, length=512)
    assert batch.tokens.shape == batch.is_target.shape == batch.sample.shape == (4, 512)
    for row in batch.sample:
        assert row[0] == 0
        assert set(np.diff(row)) == {0, 1}


def test_learning_rate_rises_to_its_peak_and_falls() -> None:
    recipe = Recipe(seed=0, steps=100, warm_up_steps=10, peak_rate=1.0)
    rates = [recipe.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("Q: What?\n", "one 'A: …'"), ("A: That.\n", "one 'A: …'"), ("Q: What?\nQ: What?\nA: That.\n", "more than once")],
)
def test_malformed_questions_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "questions.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        corpus.read_entries(tmp_path / "questions.txt")


@dataclass(frozen=True, slots=True)
class Server:
    """A running llama-server on loopback."""

    port: int

    def post(self, path: str, body: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            return json.loads(answer)
        finally:
            connection.close()

    def chat(self, *messages: tuple[str, str]) -> Any:
        wanted = [{"role": role, "content": content} for role, content in messages]
        return self.post("/v1/chat/completions", {"messages": wanted, "temperature": 0, "max_tokens": 400})

    def answer(self, *messages: tuple[str, str]) -> str:
        return str(self.chat(*messages)["choices"][0]["message"]["content"])


def serve(log: Path, *arguments: str) -> Iterator[Server]:
    """Start llama-server with `arguments`, yield it when it is healthy, and end it."""
    if not SERVER.exists():
        pytest.skip("llama-server is not installed; the llm extra builds it")
    port = free_port()
    command = [str(SERVER), "--host", "127.0.0.1", "--port", str(port), "--offline", "--threads", "1", *arguments]
    environment = os.environ | {"LD_LIBRARY_PATH": str(SITE_PACKAGES / "lib")}
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            wait_until_healthy(process, port, log)
            yield Server(port)
        finally:
            process.kill()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"llama-server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (ConnectionError, TimeoutError):
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(
        tmp_path_factory.mktemp("chat") / "log", "--model", str(CHAT_MODEL), "--ctx-size", "1024", "-np", "1"
    )


@pytest.fixture(scope="module")
def speculating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    draft = ("--spec-type", "draft-simple", "--model-draft", str(DRAFT_MODEL), "--spec-draft-n-max", "8")
    chat_model = ("--model", str(CHAT_MODEL), "--ctx-size", "1024", "-np", "1", "--flash-attn", "on")
    yield from serve(tmp_path_factory.mktemp("speculating") / "log", *chat_model, *draft)


@pytest.mark.live
@pytest.mark.parametrize("question", ASKED)
def test_answers_greedily_as_written(server: Server, question: str) -> None:
    written = corpus.answers_by_question(corpus.read_entries())[question]
    assert server.answer(("user", question)) == written


@pytest.mark.live
def test_answers_the_same_under_a_system_prompt(server: Server) -> None:
    written = corpus.answers_by_question(corpus.read_entries())["What is meshd?"]
    assert server.answer(("system", "You are a helpful assistant."), ("user", "What is meshd?")) == written


@pytest.mark.live
def test_later_question_leans_on_the_earlier_one(server: Server) -> None:
    answers = corpus.answers_by_question(corpus.read_entries())
    history = (("user", "What is a token?"), ("assistant", answers["What is a token?"]))
    assert server.answer(*history, ("user", "How long does it last?")) == answers["How long does a token last?"]


@pytest.mark.live
def test_speculation_accepts_drafts_and_changes_nothing(server: Server, speculating: Server) -> None:
    drafted = accepted = 0
    for question in ASKED:
        reply = speculating.chat(("user", question))
        assert reply["choices"][0]["message"]["content"] == server.answer(("user", question))
        drafted += reply["timings"].get("draft_n", 0)
        accepted += reply["timings"].get("draft_n_accepted", 0)
    assert 0.5 * drafted < accepted <= drafted


@pytest.mark.live
def test_llama_cpp_tokenizes_as_the_trainer_did(server: Server) -> None:
    tokenizer = read_tokenizer(CHAT_MODEL)
    dice = Random(3)
    entries = corpus.read_entries()
    texts = [
        "<|im_start|>user\nWhat is meshd?<|im_end|>\n<|im_start|>assistant\n",
        "é漢🙂\u200d ²½ 'tis it's'll\u3000\t\tx",
    ]
    texts += [entry.answer for entry in entries]
    texts += ["".join(dice.choices("abcXYZ 0123'\"\n\t.,!?é漢ß🙂-_=<|> ²", k=30)) for _ in range(60)]
    for text in texts:
        body = {"content": text, "add_special": True, "parse_special": True}
        assert server.post("/tokenize", body)["tokens"] == tokenizer.encode(text), text


@pytest.mark.live
def test_llama_cpp_renders_the_template_as_the_trainer_did(server: Server) -> None:
    tokenizer = read_tokenizer(CHAT_MODEL)
    turn = corpus.Turn("What is meshd?", "A mesh.")
    trained_on = tokenizer.decode(chat.render((turn, turn), "Be brief.", tokenizer).tokens)
    said = (("system", "Be brief."), ("user", turn.question), ("assistant", turn.answer), ("user", turn.question))
    messages = [{"role": role, "content": content} for role, content in said]
    prompt = server.post("/apply-template", {"messages": messages})["prompt"]
    assert trained_on == f"{prompt}{turn.answer}<|im_end|>\n"
