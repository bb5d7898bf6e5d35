"""Fine-tuning several classes of model: checkpoints that are loaded whole or not at all, prompts as each class has learned them, what is trained, and how samples are fetched."""
import json, os, shutil, subprocess, sys

import numpy as np
import pytest
from PIL import Image

from cadvlm.cli import main
from cadvlm.dataset import DatasetError, read_json
from cadvlm.sequence import CadError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import vlms
from safetensors.torch import load_file, save_file

from cadvlm import finetune as tuning
from cadvlm.finetune import IGNORED, CheckpointError, Samples, encode_sample, finetune, load_base, load_conversations, make_tiny, write_answers

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
LORA = pytest.mark.parametrize("use_lora", [False, True], ids=["full", "lora"])
CLASSES = pytest.mark.parametrize("name", ["llava", "qwen", "gemma3"])
FULL, ADAPTERS = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Twelve plates with a bar somewhere: the answer says where."
    folder, rows = tmp_path_factory.mktemp("models"), []
    for k in range(12):
        image = np.full((56, 56, 3), 255, np.uint8)
        image[4 + 4 * k : 10 + 4 * k] = 0
        Image.fromarray(image).save(folder / f"{k:08}_front.png")
        turns = [{"from": "human", "value": "<image>\nWhich part?"}, {"from": "gpt", "value": f"+ z 0 {k * 8} R 0 0 {k} 9"}]
        rows.append(dict(id=f"{k:08}_front", image=f"{k:08}_front.png", conversations=turns))
    (folder / "train.json").write_text(json.dumps(rows[:8]))
    (folder / "val.json").write_text(json.dumps(rows[8:]))
    for row in rows[8:]:
        row["conversations"][1]["value"] = "QUITE UNLIKE THE OTHERS"
    (folder / "unlike.json").write_text(json.dumps(rows[8:]))  # the more is learned, the less likely these are
    return folder


@pytest.fixture(scope="module")
def base(folder):
    "The folder of a base by the name of its class, made once."

    def made(name):
        if not (folder / name).exists():
            if name == "llava":
                make_tiny(folder / name, load_conversations(folder / "train.json", folder), image_size=32)
            else:
                vlms.make(name, folder)
        return folder / name

    return made


@pytest.fixture(scope="module")
def settings(folder, base):
    return lambda name, **more: dict(train_data=folder / "train.json", val_data=folder / "val.json", image_folder=folder, base=str(base(name)), device="cpu", batch_size=4, epochs=4, learning_rate=2e-3) | more


def conversations(folder):
    return load_conversations(folder / "train.json", folder)


def losses(output):
    return [r["loss"] for r in read_json(output / "finetuning.json")["history"] if "loss" in r]


def checkpoints(output):
    return sorted((output / "checkpoints").iterdir(), key=lambda p: int(p.name.rpartition("-")[2]))


def saved(path, use_lora):
    "The weights in a folder, as bytes by name."
    return {n: (t.shape, t.numpy().tobytes()) for n, t in load_file(path / (ADAPTERS if use_lora else FULL)).items()}


# --- checkpoints


@pytest.fixture(scope="module")
def run(folder, settings, tmp_path_factory):
    "The settings and the folder of a run of a class that keeps the best of its checkpoints, made once; the last is not the best."
    made = {}

    def once(name, use_lora):
        if (name, use_lora) not in made:
            choice = settings(name, use_lora=use_lora, learning_rate=2e-2, early_stopping=9, val_data=folder / "unlike.json")
            made[name, use_lora] = choice, tmp_path_factory.mktemp("run")
            finetune(output=made[name, use_lora][1], **choice)
        return made[name, use_lora]

    return once


@LORA
@CLASSES
def test_a_resumed_run_takes_the_steps_of_one_that_never_stopped(run, tmp_path, name, use_lora):
    choice, whole = run(name, use_lora)
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(checkpoints(cut)[-1])
    finetune(output=cut, **choice, resume=True)
    assert len(losses(cut)) == 8 and losses(cut) == pytest.approx(losses(whole), rel=1e-5)
    assert saved(checkpoints(cut)[-1], use_lora) == saved(checkpoints(whole)[-1], use_lora)


@LORA
@CLASSES
def test_the_kept_model_is_the_best_checkpoint_bit_by_bit(run, name, use_lora):
    best, last = checkpoints(run(name, use_lora)[1])
    assert read_json(last / "trainer_state.json")["best_model_checkpoint"].endswith(best.name)
    kept = saved(run(name, use_lora)[1] / ("adapter" if use_lora else "model"), use_lora)
    assert kept == saved(best, use_lora) and kept != saved(last, use_lora)


def renamed(path):
    "Give one tensor of a file another name; returns the old one and the new one."
    found = load_file(path)
    old = sorted(n for n in found if "vision" not in n and "visual" not in n)[0]
    found["stranger.weight"] = found.pop(old)
    save_file(found, path, metadata=dict(format="pt"))
    return old, "stranger.weight"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


@LORA
@pytest.mark.parametrize("name", ["llava", "qwen"])
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_the_weights(run, tmp_path, name, use_lora):
    choice, whole = run(name, use_lora)
    folder = shutil.copytree(whole, tmp_path / "run")
    file = checkpoints(folder)[-1] / (ADAPTERS if use_lora else FULL)
    again = lambda **change: finetune(output=folder, **choice | dict(epochs=5, resume=True) | change)
    with pytest.raises(CheckpointError) as e:
        again(use_lora=not use_lora)
    assert e.value.reason == "wrong_checkpoint" and "--use-lora" in e.value.message
    for change, told in ((dict(lora_rank=2), "of another shape: .*lora_[AB]"), (dict(lora_targets=("q_proj",)), "left over: ")):
        if use_lora:
            with pytest.raises(CheckpointError, match=told):
                again(**change)
    old, new = renamed(file)
    with pytest.raises(CheckpointError) as e:
        again()
    missing, _, left_over = e.value.message.partition("; left over: ")
    assert e.value.reason == "wrong_checkpoint" and left_over.startswith(new) and ".".join(old.split(".")[-2:]) in missing
    cut_short(file)
    with pytest.raises(CheckpointError) as e:
        again()
    assert e.value.reason == "broken_checkpoint" and "--resume" in e.value.message


def test_the_command_names_the_checkpoint_in_one_line(run, tmp_path, capsys):
    choice, whole = run("llava", False)
    folder = shutil.copytree(whole, tmp_path / "run")
    renamed(checkpoints(folder)[-1] / FULL)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in choice.items() if k != "use_lora"]
    assert main(["finetune", f"--output={folder}", "--resume", *flags]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("cadvlm: ") and "stranger.weight" in told and told.endswith("[wrong_checkpoint]")
