"""Training: what it writes, going on after a kill, and what it rejects. What ablations say of models that look, and of
those that do not, is in their chapter."""
import json, os, signal, subprocess, sys

import cv2
import numpy as np
import pytest

from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset
from cadvlm.errors import DatasetError
from cadvlm.files import read_json, write_json
from cadvlm.text.language import decode
from cadvlm.errors import CadError

torch = pytest.importorskip("torch")
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize
from cadvlm.learn import commands, samples as reading
from cadvlm.learn.commands import predict, train
from cadvlm.learn.constrain import generate
from cadvlm.learn.model import CnnGru, best_device, loss_of, read_checkpoint
from cadvlm.learn.samples import check_disjoint, load_images, load_samples
from cadvlm.learn.tokens import train_tokenizer

QUICK = dict(model="cnn-gru", device="cpu", image_size=32, train_samples=40, val_samples=16, steps=0, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    synthesize(folder / "parts", count=60, workers=1)
    extract(folder / "parts", folder / "tiny", train_size=40, val_size=10, test_size=10, order="random", workers=1)
    render(folder / "tiny", size=64, workers=1)
    convert(folder / "tiny", language="compact", verify=False, workers=1)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return train(folder / "tiny", folder / "run", epochs=2, **QUICK)


def test_the_report_holds_what_was_measured(folder, report):
    kept = json.loads((folder / "run" / "training.json").read_text())
    assert kept["epochs"] == report["epochs"] and kept["controls"] == report["controls"] and len(kept["epochs"]) == 2
    for word in ("samples/s", "shuffled images", "-gram", "Image ablation"):
        assert word in str(report)
    assert cv2.imread(str(folder / "run" / "training.png")).std() > 1
    assert kept["parameters"] == sum(p.numel() for p in read_checkpoint(folder / "run")[1].parameters())


def losses(report):
    return [(e["train_loss"], e["val_loss"]) for e in report["epochs"]]


def test_another_seed_has_other_losses(folder, report):
    assert losses(train(folder / "tiny", folder / "other", epochs=2, **QUICK, seed=1)) != losses(report)


KILLED = """import os, signal
from pathlib import Path
from cadvlm.learn import commands, train as training
step, left = training.step, iter(range({steps}))

def killed(*arguments):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

training.step = killed
commands.train(Path({dataset!r}), Path({output!r}), **{settings!r})
"""


def test_a_killed_run_goes_on_to_the_same_losses(folder, report):
    "SIGKILL in the middle of the second epoch."
    settings, output = dict(epochs=2, **QUICK), folder / "killed"
    code = KILLED.format(steps=30, dataset=str(folder / "tiny"), output=str(output), settings=settings)
    process = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TQDM_DISABLE": "1"}, timeout=120)
    assert process.returncode == -signal.SIGKILL and not (output / "training.json").exists()
    assert len(torch.load(output / "checkpoint.pt", weights_only=True)["epochs"]) == 1
    again = train(folder / "tiny", output, **settings)
    for a, b in zip(again["epochs"], report["epochs"], strict=True):
        assert (a["train_loss"], a["val_loss"]) == pytest.approx((b["train_loss"], b["val_loss"]), rel=1e-6)


def test_a_stopped_prediction_goes_on(folder, report, tmp_path, monkeypatch, capsys):
    "Ctrl-C in the second batch: what it says is what the same command then does."
    real = commands.gru_writer

    def stops(*arguments):
        samples, write = real(*arguments)

        def once(some, first):
            if first:
                raise KeyboardInterrupt
            return write(some, first)

        return samples, once

    words = ["predict", str(folder / "run"), str(folder / "tiny"), "--batch-size", "4", "--device", "cpu", "--output"]
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert main([*words, str(whole)]) == 0
    monkeypatch.setattr(commands, "gru_writer", stops)
    assert main([*words, str(cut)]) == 130 and "the same command goes on from here" in capsys.readouterr().err
    assert len(cut.read_text().splitlines()) == 4
    monkeypatch.setattr(commands, "gru_writer", lambda *a: counted(*real(*a)))
    firsts = []

    def counted(samples, write):
        return samples, lambda some, first: firsts.append(first) or write(some, first)

    assert main([*words, str(cut)]) == 0
    assert cut.read_bytes() == whole.read_bytes() and firsts[0] == 4


def test_padding_and_company_change_no_loss(folder):
    samples = load_samples(Dataset(folder / "tiny"), "validation")
    torch.manual_seed(0)
    model = CnnGru(train_tokenizer(s.text for s in samples), 32)
    images = load_images(Dataset(folder / "tiny"), samples, 32)
    nats, counts = loss_of(model, samples, images)
    one = [loss_of(model, [s], images[i : i + 1])[0][0] for i, s in enumerate(samples)]
    assert np.allclose(nats, one, rtol=1e-4) and (counts > 1).all()


def test_every_constrained_text_decodes(folder):
    "1,000 texts of a model that knows nothing, at several temperatures and budgets."
    samples = load_samples(Dataset(folder / "tiny"), "train")
    torch.manual_seed(1)
    model, images = CnnGru(train_tokenizer(s.text for s in samples), 32), np.zeros((250, 32, 32), np.uint8)
    for seed, (temperature, budget) in enumerate([(1.0, 40), (3.0, 20), (0.5, 80), (1.0, 9)]):
        for text in generate(model, images, ["front"] * 250, temperature=temperature, seed=seed, max_tokens=budget):
            assert decode(text, "compact") is not None
    with pytest.raises(DatasetError, match="max_tokens"):
        generate(model, images, ["front"] * 250, max_tokens=2)


def test_samples_that_are_too_long_are_counted_and_never_cut(folder):
    report = train(folder / "tiny", folder / "short", epochs=1, max_length=40, **QUICK)
    assert report["too_long"] > 0
    assert report["longest"] < 40
    assert f"{report['too_long']} samples longer than 40" in str(report)
    with pytest.raises(DatasetError, match="max_length"):
        train(folder / "tiny", folder / "shorter", epochs=1, max_length=2, **QUICK)
    assert train(folder / "tiny", folder / "shorter", epochs=1, max_length=40, **QUICK)["too_long"]


def test_predictions_can_be_evaluated(folder, report, capsys):
    made = predict(folder / "run", folder / "tiny", samples=6, device="cpu", max_tokens=60)
    assert made["decode"] == made["samples"] == 6
    assert main(["evaluate", str(folder / "run" / "predictions_test.jsonl"), str(folder / "tiny"), "--workers",
                 "1"]) == 0
    assert "IR" in capsys.readouterr().out


def test_the_command_takes_the_settings_of_a_file(folder, tmp_path, capsys):
    config = tmp_path / "quick.yaml"
    config.write_text("train:\n  model: cnn-gru\n  epochs: 1\n  batch_size: 4\n  steps: 0\n  train_samples: 20\n"
                      "  val_samples: 16\n  image_size: 32\n  device: cpu\n")
    assert main(["train", str(folder / "tiny"), str(tmp_path / "run"), "--config", str(config), "--batch-size",
                 "5"]) == 0
    kept = json.loads((tmp_path / "run" / "training.json").read_text())
    assert kept["batch_size"] == 5 and kept["train_samples"] == 20 and "Image ablation" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "run"), str(folder / "tiny"), "--samples", "2", "--max-tokens", "40",
                 "--device", "cpu"]) == 0


def test_a_part_in_training_and_validation_is_rejected(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "tiny", tmp_path / "leaky")
    rows = read_json(tmp_path / "leaky" / "val.json")
    write_json(tmp_path / "leaky" / "val.json", rows + read_json(tmp_path / "leaky" / "train.json")[:1])
    with pytest.raises(DatasetError) as e:
        check_disjoint(Dataset(tmp_path / "leaky"))
    assert e.value.reason == "leaked"


def test_a_loss_that_is_no_number_names_the_samples(folder):
    with pytest.raises(CadError) as e:
        train(folder / "tiny", folder / "hot", epochs=3, learning_rate=1e30, **QUICK)
    assert e.value.reason == "nan_loss" and "_" in e.value.message and not (folder / "hot" / "training.json").exists()


def test_what_makes_no_sense_is_rejected(folder, report, tmp_path):
    for wrong, reason in ((dict(epochs=0), "bad_setting"), (dict(steps=1, epochs=2), "bad_setting"),
                          (dict(image_size=33), "bad_setting"), (dict(learning_rate=0.0), "bad_setting"),
                          (dict(device="tpu9"), "bad_setting"), (dict(val_samples=1), "too_few")):
        with pytest.raises(CadError) as e:
            train(folder / "tiny", tmp_path / "x", **QUICK | wrong)
        assert e.value.reason == reason, wrong
    with pytest.raises(DatasetError) as e:
        train(tmp_path / "nothing", **QUICK)
    assert e.value.reason == "missing_dataset" and "cadvlm run" in str(e.value)
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", folder / "run", **QUICK | dict(epochs=3))
    assert e.value.reason == "other_run" and "--epochs" in e.value.message


def test_files_of_strangers_run_no_code(folder, report, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save(dict(model=Bomb()), tmp_path / "checkpoint.pt")
    with pytest.raises(DatasetError) as e:
        read_checkpoint(tmp_path)
    assert e.value.reason == "bad_checkpoint" and not (tmp_path / "exploded").exists()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path / "x", tokenizer=tmp_path / "tokenizer.json", **QUICK)
    assert e.value.reason == "bad_tokenizer"


def test_images_are_read_once(folder, tmp_path, monkeypatch):
    dataset = Dataset(folder / "tiny")
    samples = load_samples(dataset, "validation")
    first = load_images(dataset, samples, 32, tmp_path)
    monkeypatch.setattr(reading, "read_image", lambda *_: pytest.fail("read again"))
    assert (load_images(dataset, samples, 32, tmp_path) == first).all()
    monkeypatch.undo()
    victim = dataset.path / samples[0].image
    keep = victim.read_bytes()
    try:
        victim.write_bytes(b"no image")
        with pytest.raises(DatasetError) as e:
            load_images(dataset, samples, 32, tmp_path)
        assert e.value.reason == "bad_image" and not list(tmp_path.glob("*.part"))
    finally:
        victim.write_bytes(keep)


def test_devices():
    assert best_device("cpu").type == "cpu" and best_device().type in ("cpu", "cuda", "mps")


def test_the_same_command_goes_on_and_another_is_rejected(folder, report, tmp_path):
    "Begun again, it comes to the same losses."
    assert train(folder / "tiny", folder / "run", epochs=2,
                 **QUICK) == json.loads((folder / "run" / "training.json").read_text())
    again = train(folder / "tiny", tmp_path / "run", epochs=1, **QUICK)
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path / "run", epochs=2, **QUICK)
    assert e.value.reason == "other_run" and "--restart" in e.value.message
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == again
    assert losses(train(folder / "tiny", tmp_path / "run", epochs=2, restart=True, **QUICK)) == losses(report)


@pytest.mark.parametrize("name",
                         ["best.pt", "checkpoint.pt", "tokenizer.json", "training.json", "training.png", "run.json"])
@pytest.mark.parametrize("restart", [False, True])
def test_files_of_others_are_left(folder, tmp_path, name, restart):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path, epochs=1, restart=restart, **QUICK)
    assert e.value.reason == "not_ours" and (tmp_path / name).read_bytes() == b"mine"


def test_predictions_go_on_and_are_not_overwritten(folder, report, tmp_path):
    output, settings = tmp_path / "p.jsonl", dict(device="cpu", max_tokens=40, batch_size=2, temperature=1.0)
    predict(folder / "run", folder / "tiny", output, **settings)
    whole = output.read_bytes()
    output.write_bytes(whole[: len(whole) // 2])
    predict(folder / "run", folder / "tiny", output, **settings)
    assert output.read_bytes() == whole and cv2.imread(str(output.with_suffix(".png"))).std() > 1
    with pytest.raises(DatasetError) as e:
        predict(folder / "run", folder / "tiny", output, **settings | dict(seed=1))
    assert e.value.reason == "other_run" and output.read_bytes() == whole
    (tmp_path / "mine.jsonl").write_bytes(b"mine")
    with pytest.raises(DatasetError) as e:
        predict(folder / "run", folder / "tiny", tmp_path / "mine.jsonl", **settings)
    assert e.value.reason == "not_ours"


def test_a_model_of_views_does_not_read_sheets(folder, report, tmp_path):
    sheets = tmp_path / "sheets"
    extract(folder / "parts", sheets, train_size=4, val_size=2, test_size=2, order="random", workers=1)
    render(sheets, views=("sheet",), size=64, workers=1)
    convert(sheets, language="compact", sample="sheet", verify=False, workers=1)
    with pytest.raises(DatasetError) as e:
        predict(folder / "run", sheets, device="cpu")
    assert e.value.reason == "other_views" and "--sample each" in e.value.message


def test_a_full_disk_is_one_line(folder, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "checkpoint.pt")
    monkeypatch.setattr("cadvlm.learn.model.write_bytes", full)
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path / "run", epochs=1, **QUICK)
    assert e.value.reason == "disk_full" and "same command" in e.value.message
    monkeypatch.undo()
    assert train(folder / "tiny", tmp_path / "run", epochs=1, **QUICK)["epochs"]


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(name):
    if (torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()):
        pytest.skip("it is there")
    with pytest.raises(DatasetError) as e:
        best_device(name)
    assert e.value.reason == "no_device"
