"""Settings that make no sense are one line, before any work begins: on the command line, in a YAML file, in Python."""

import json
import subprocess
import sys

import pytest

from builders import cases, error_line, numbers, rejection
from cadvlm.app.cli import load_config, main
from cadvlm.settings.base import MOST
from cadvlm.settings.stages import Run
from cadvlm.stages.download import download
from cadvlm.measure.evaluate import evaluate
from cadvlm.stages.extract import extract
from cadvlm.measure.stats import stats
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize
from cadvlm.stages.upload import upload
from cadvlm.stages.validate import validate

WHOLE = {
    "extract": ["train-size", "val-size", "test-size", "seed", "workers"],
    "run": ["train-size", "val-size", "test-size", "seed", "workers", "size", "max-length", "image-tokens"],
    "synthesize": ["count", "seed", "workers"],
    "demo": ["count", "seed", "workers"],
    "render": ["size", "workers"],
    "convert": ["seed", "workers"],
    "dedup": ["workers"],
    "validate": ["max-length", "image-tokens", "workers"],
    "stats": ["workers"],
    "upload": ["threads"],
    "download": ["tries"],
    "evaluate": ["seed", "workers"],
    "train": ["epochs", "steps", "batch-size", "train-samples", "val-samples", "image-size", "max-length", "seed"],
    "predict": ["samples", "max-tokens", "batch-size", "seed"],
    "finetune": [
        "batch-size",
        "accumulate",
        "lora-rank",
        "max-length",
        "eval-steps",
        "early-stopping",
        "train-samples",
        "val-samples",
        "ablation-samples",
        "seed",
    ],
    "answer": ["samples", "max-tokens", "batch-size", "seed"],
    "compare": ["steps", "seeds", "parts"],
}
PLACES = dict(
    extract=["src", "out"],
    run=["src", "out"],
    synthesize=["out"],
    demo=["out"],
    upload=["out", "memory://x"],
    download=["out"],
    evaluate=["p.jsonl", "out"],
    predict=["m", "out"],
    answer=["m", "out"],
    compare=["out", "--tests", "out"],
)
TRAINING = {"train", "predict", "finetune", "answer", "compare"}
WRONG = ("99999999999999999999", "3000000000", "1.5", "2.0", "1e3", "ten", "nan", "-9")
EVERY = max(1, 4 // cases(1))  # of these values each flag takes every fourth, the next flag those behind them


@pytest.mark.parametrize("command", WHOLE)
def test_whole_number_flags_are_checked(command, tmp_path, monkeypatch, capsys):
    if command in TRAINING:
        pytest.importorskip("peft", reason="needs the libraries of training")
    monkeypatch.chdir(tmp_path)
    for k, flag in enumerate(WHOLE[command]):
        for value in WRONG[k % EVERY :: EVERY]:
            code = main([command, *PLACES.get(command, ["out"]), f"--{flag}", value])
            error = error_line(capsys)
            assert code == 2 and f"--{flag}" in error and value in error.replace(",", ""), (flag, value, error)
    assert not list(tmp_path.iterdir())


def test_run_takes_the_sections_of_its_stages(tmp_path):
    "Every setting that `run` has, from the section of each stage that has it, too."
    path = tmp_path / "mine.yaml"
    for stage in Run.stages:
        given = {k: v for k, v in stage().model_dump(mode="json").items() if k in Run.model_fields and v is not None}
        path.write_text(json.dumps({stage.command(): given}))
        assert load_config(path, "run") == given and given


@pytest.mark.parametrize("text", ["99999999999999999999", "1.5", "-3", "'3'", ".nan", "9" * 5000], ids=lambda t: t[:20])
def test_whole_numbers_of_yaml_files_are_checked(text, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(f"extract: {{train_size: {text}}}")
    assert main(["extract", "src", str(tmp_path / "out"), "--config", str(tmp_path / "mine.yaml")]) == 2
    error = error_line(capsys)
    assert "mine.yaml" in error or "--train-size" in error
    assert len(error) < 400 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "value",
    [10**20, 10**5000, -1, 1.5, 2.0, True, "3", None, float("nan"), float("inf")],
    ids=lambda v: str(v)[:20] if type(v) is not int or v < 10**99 else "googol",
)
def test_whole_number_arguments_are_checked(value, tmp_path):
    calls = {
        "train_size": lambda: extract("src", tmp_path / "out", train_size=value),
        "seed": lambda: extract("src", tmp_path / "out", seed=value),
        "count": lambda: synthesize(tmp_path / "out", count=value),
        "size": lambda: render(tmp_path / "out", size=value),
        "max_length": lambda: validate(tmp_path / "out", max_length=value),
        "threads": lambda: upload(tmp_path / "out", "memory://x", threads=value),
        "tries": lambda: download(tmp_path / "out.tar", "http://127.0.0.1:9/x.tar", tries=value),
        "seed ": lambda: evaluate([], tmp_path / "out", seed=value),
    }
    for name, call in calls.items():
        error = rejection(call)
        assert (error.reason, error.where) == ("bad_setting", name.strip()) and len(str(error)) < 200
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**9, "5", True])
def test_timeouts_are_checked(value, tmp_path):
    for call in (
        lambda: render(tmp_path / "out", timeout=value),
        lambda: stats(tmp_path / "out", timeout=value),
        lambda: evaluate([], tmp_path / "out", timeout=value),
        lambda: download(tmp_path / "out.tar", "http://127.0.0.1:9/x.tar", timeout=value),
    ):
        error = rejection(call)
        assert (error.reason, error.where) == ("bad_setting", "timeout")


def test_largest_seed_is_accepted(tmp_path):
    assert synthesize(tmp_path / "a", count=3, seed=MOST, workers=1).made == 3


def test_too_large_count_takes_no_memory(tmp_path):
    "The corpus of a run without a source: its number is the sum of the sizes."
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2); from {main.__module__} import"
        f" main;raise SystemExit(main(['run', '--output', {str(tmp_path / 'out')!r}, '--train-size', '2000000000',"
        " '--workers', '1']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "10000000" in numbers(result.stderr)
