"""Fine-tuning several classes of model: checkpoints that are loaded whole or not at all, prompts as each class has
learned them, what is trained, and how samples are fetched."""

import json, shutil, subprocess, sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import environment, some
from cadvlm.app.cli import main
from cadvlm.errors import DatasetError
from cadvlm.files import read_json

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import vlms
from safetensors.torch import load_file, save_file

from cadvlm.learn import answer as answering, conversations as conversing, finetune as tuning
from cadvlm.learn.conversations import IGNORED, Samples, encode_sample, load_conversations
from cadvlm.learn.finetune import CheckpointError, finetune, load_base
from cadvlm.learn.write_answers import write_answers

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)
# with adapters or not; every second is each class in one way, and both ways are there
KINDS = [(name, use_lora) for name in ("llava", "qwen", "gemma3") for use_lora in (name != "qwen", name == "qwen")]


def kinds(count):
    "Parametrise a test with classes of models and how they are tuned: each class in one way, and in both as cases."
    of = some(KINDS[:count], 2)
    names = [f"{name}-{'lora' if use_lora else 'full'}" for name, use_lora in of]
    return pytest.mark.parametrize("name, use_lora", of, ids=names)


FULL, ADAPTERS = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Twelve plates with a bar somewhere: the answer says where."
    folder, rows = tmp_path_factory.mktemp("parts"), []
    for k in range(12):
        image = np.full((56, 56, 3), 255, np.uint8)
        image[4 + 4 * k : 10 + 4 * k] = 0
        Image.fromarray(image).save(folder / f"{k:08}_front.png")
        turns = [
            {"from": "human", "value": "<image>\nWhich part?"},
            {"from": "gpt", "value": f"+ z 0 {k * 8} R 0 0 {k} 9"},
        ]
        rows.append(dict(id=f"{k:08}_front", image=f"{k:08}_front.png", conversations=turns))
    (folder / "train.json").write_text(json.dumps(rows[:8]))
    (folder / "val.json").write_text(json.dumps(rows[8:]))
    return folder


@pytest.fixture(scope="module")
def base(folder):
    "The folder of a base by the name of its class."
    return partial(vlms.base, folder)


@pytest.fixture(scope="module")
def settings(folder, base):
    return (
        lambda name, **more: dict(
            train_data=folder / "train.json",
            val_data=folder / "val.json",
            image_folder=folder,
            base=str(base(name)),
            device="cpu",
            batch_size=4,
            epochs=4,
            learning_rate=2e-3,
        )
        | more
    )


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


def best_after_four_steps(trainer, *args, **kwargs):
    "Validation that likes the checkpoint after four steps best, whatever has been learned."
    return measured(trainer, *args, **kwargs) | dict(eval_loss=abs(trainer.state.global_step - 4.0))


measured = tuning._Trainer.evaluate


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    "The settings and the folder of a run of a class, made once: its best checkpoint is the second of four."
    made = {}

    def once(name, use_lora):
        if (name, use_lora) not in made:
            choice = settings(name, use_lora=use_lora, early_stopping=9)
            made[name, use_lora] = choice, tmp_path_factory.mktemp("run")
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(tuning._Trainer, "evaluate", best_after_four_steps)
                finetune(output=made[name, use_lora][1], **choice)
        return made[name, use_lora]

    return once


@kinds(6)
def test_a_resumed_run_takes_the_steps_of_one_that_never_stopped(run, tmp_path, name, use_lora):
    choice, whole = run(name, use_lora)
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(checkpoints(cut)[-1])
    (cut / "finetuning.json").unlink()  # it has not ended
    finetune(output=cut, **choice)
    assert len(losses(cut)) == 8 and losses(cut) == pytest.approx(losses(whole), rel=1e-5)
    assert saved(checkpoints(cut)[-1], use_lora) == saved(checkpoints(whole)[-1], use_lora)


@kinds(6)
def test_the_kept_model_is_the_best_checkpoint_bit_by_bit(run, name, use_lora):
    best, last = checkpoints(run(name, use_lora)[1])
    assert (best.name, last.name) == ("checkpoint-4", "checkpoint-8")
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


@kinds(4)
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_the_weights(run, tmp_path, name, use_lora):
    choice, whole = run(name, use_lora)
    folder = shutil.copytree(whole, tmp_path / "run")
    file = checkpoints(folder)[-1] / (ADAPTERS if use_lora else FULL)
    (folder / "finetuning.json").unlink()  # it has not ended
    again = lambda **change: finetune(output=folder, **choice | change)
    for change in (dict(use_lora=not use_lora), dict(lora_rank=2), dict(lora_targets=("q_proj",)), dict(epochs=5)):
        with pytest.raises(DatasetError) as e:
            again(**change)
        assert e.value.reason == "other_run" and "--restart" in e.value.message
    old, new = renamed(file)
    with pytest.raises(CheckpointError) as e:
        again()
    missing, _, left_over = e.value.message.partition("; left over: ")
    assert (
        e.value.reason == "wrong_checkpoint" and left_over.startswith(new) and ".".join(old.split(".")[-2:]) in missing
    )
    cut_short(file)
    with pytest.raises(CheckpointError) as e:
        again()
    assert e.value.reason == "broken_checkpoint" and "same command" in e.value.message


def test_the_command_names_the_checkpoint_in_one_line(run, tmp_path, capsys):
    choice, whole = run("llava", False)
    folder = shutil.copytree(whole, tmp_path / "run")
    renamed(checkpoints(folder)[-1] / FULL)
    (folder / "finetuning.json").unlink()  # it has not ended
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in choice.items() if k != "use_lora"]
    assert main(["finetune", f"--output={folder}", *flags]) == 2
    reply = capsys.readouterr().err.strip().splitlines()[-1]
    assert reply.startswith("cadvlm: ") and "stranger.weight" in reply and reply.endswith("[wrong_checkpoint]")


# --- prompts, as each class has learned them


EVERY = vlms.cases()


@EVERY
def test_a_text_begins_once_and_is_what_the_model_is_asked_later(folder, base, name):
    processor = load_base(base(name))[1]
    begin = processor.tokenizer.bos_token_id
    for c in conversations(folder):
        asked, taught = (encode_sample(processor, c, answer=a) for a in (False, True))
        ids, labels = taught["input_ids"][0], taught["labels"][0]
        kept = labels != IGNORED
        assert begin is None or name == "llava" or int((ids == begin).sum()) == 1
        assert (
            torch.equal(ids[~kept], asked["input_ids"][0])
            and torch.equal(ids[kept], labels[kept])
            and "labels" not in asked
        )
        assert processor.tokenizer.decode(ids[kept]).strip() == c.answer + vlms.ENDS[name]


def test_gemma3_is_asked_with_the_tokens_of_its_own_template(folder, base):
    "What `apply_chat_template` makes of the same conversation when it is left to count tokens itself."
    processor = load_base(base("gemma3"))[1]
    c = conversations(folder)[0]
    image = Image.open(c.images[0]).convert("RGB")
    content = [dict(type="image", image=image), dict(type="text", text=c.question.removeprefix("<image>\n"))]
    own = processor.apply_chat_template(
        [dict(role="user", content=content)],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    made = encode_sample(processor, c, answer=False)
    assert torch.equal(own["input_ids"], made["input_ids"]) and torch.equal(
        own["token_type_ids"], made["token_type_ids"]
    )


def test_paligemma_is_taught_as_its_processor_would(folder, base):
    "Image, begin-of-text, question, line break, then the answer as suffix: what its processor makes for training."
    processor = load_base(base("paligemma"))[1]
    c = conversations(folder)[0]
    own = processor(
        text=[c.question.replace("\n", "")],
        images=[Image.open(c.images[0]).convert("RGB")],
        suffix=[c.answer],
        return_tensors="pt",
    )
    made = encode_sample(processor, c)
    assert made.keys() == own.keys() and all(torch.equal(own[k], made[k]) for k in own)


@EVERY
def test_no_token_of_an_answer_sees_a_later_one(folder, base, name):
    model, processor = load_base(base(name))
    c = conversations(folder)[0]
    first, second = (encode_sample(processor, c._replace(answer=f"+ z 0 1 R 0 0 1 {end}")) for end in "89")
    different = int((first["input_ids"] != second["input_ids"])[0].nonzero()[0])
    with torch.no_grad():
        a, b = (model.eval()(**s).logits[0, :different] for s in (first, second))
    assert torch.allclose(a, b, atol=1e-5) and different > 30


@EVERY
def test_company_and_padding_change_no_loss(folder, base, name):
    model, processor = load_base(base(name))
    samples = [
        encode_sample(processor, c._replace(answer=c.answer + " 1" * k))
        for k, c in enumerate(conversations(folder)[:4])
    ]
    batch = conversing.collate(samples, processor.tokenizer.pad_token_id)
    del batch["ids"]
    logits = model.eval()(**batch).logits
    for row, sample in zip(logits, samples):
        assert torch.allclose(row[: sample["input_ids"].shape[1]], model(**sample).logits[0], atol=1e-4)


@EVERY
def test_tokens_are_counted_as_they_are_made(folder, base, name):
    processor = load_base(base(name))[1]
    made = Samples(processor, conversations(folder), 500)
    assert list(made.lengths) == [made[k]["input_ids"].shape[1] for k in range(len(made))]


@EVERY
def test_an_answer_does_not_depend_on_its_company(folder, base, name):
    model, processor = load_base(base(name))
    asked = [c._replace(question=c.question + " Which?" * k) for k, c in enumerate(conversations(folder)[:3], start=1)]
    alone, together = (write_answers(model, processor, asked, batch_size=n, max_tokens=12) for n in (1, 3))
    assert alone == together


def test_paligemma_learns_and_answers(settings, folder, tmp_path):
    finetune(output=tmp_path, **settings("paligemma", epochs=6))
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
    model, processor = load_base(tmp_path / "model")
    assert len(write_answers(model, processor, conversations(folder)[:3], batch_size=2, max_tokens=4)) == 3


def test_a_base_without_a_chat_template_is_rejected_in_one_line(settings, base, tmp_path, capsys):
    bare = shutil.copytree(base("qwen"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (settings("qwen") | dict(base=bare)).items()]
    assert main(["finetune", f"--output={tmp_path / 'run'}", *flags]) == 2
    reply = capsys.readouterr().err.strip().splitlines()[-1]
    assert reply.startswith("cadvlm: ") and reply.endswith("[no_chat_template]") and "-Instruct" in reply


# --- what is trained


def moved(before, after):
    a, b = (dict(load_base(p)[0].named_parameters()) for p in (before, after))
    return {n for n in a if not torch.equal(a[n], b[n])}


@kinds(6)
def test_the_projector_is_trained_and_the_tower_only_when_asked(settings, base, tmp_path, name, use_lora):
    projector = dict(llava="multi_modal_projector", qwen="visual.merger.mlp", gemma3="language_model")[
        name
    ]  # Gemma's projector is one matrix, no linear layer
    of_tower = lambda n: ("visual" in n or "vision" in n) and "merger" not in n and "projector" not in n
    for tune_vision in (False, True):
        finetune(
            output=tmp_path / str(tune_vision), **settings(name, epochs=1, use_lora=use_lora, tune_vision=tune_vision)
        )
        changed = moved(base(name), tmp_path / str(tune_vision) / "model")
        assert (
            any(projector in n for n in changed)
            and any("language_model" in n for n in changed)
            and any(map(of_tower, changed)) == tune_vision
        )
        assert use_lora or name != "gemma3" or any("multi_modal_projector" in n for n in changed)


def test_adapters_of_chosen_layers_are_on_those_alone(base):
    model = tuning.prepare(load_base(base("qwen"))[0], use_lora=True, lora_targets=("q_proj", "v_proj"))
    assert {n.rpartition(".")[2] for n, m in model.named_modules() if hasattr(m, "lora_A")} == {"q_proj", "v_proj"}


# --- several processes, and processes that fetch


TOGETHER = dict(  # the plain way; vision towers of two kinds, LLaVA's with layers that it does not use
    plain=("llava", dict(eval_steps=100)),
    llava=("llava", dict(tune_vision=True, gradient_checkpointing=True)),
    qwen=("qwen", dict(tune_vision=True, gradient_checkpointing=True)),
)


def flags(settings):
    return [f"--{k.replace('_', '-')}" if v is True else f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]


@pytest.fixture(scope="module")
def two_processes(settings, tmp_path_factory):
    "The folder of the runs of two processes with batches of 2, by the names of `TOGETHER`."
    folder = tmp_path_factory.mktemp("two")
    common = dict(epochs=2, batch_size=2)
    runs = {k: settings(name, output=folder / k, **common, **more) for k, (name, more) in TOGETHER.items()}
    (folder / "runs.json").write_text(json.dumps([["finetune", *flags(run)] for run in runs.values()]))
    command = [sys.executable, Path(__file__).with_name("train_in_turn.py"), folder / "runs.json"]
    env = environment(OMP_NUM_THREADS="1", TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
    made = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", TOGETHER)
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(settings, two_processes, tmp_path, kind):
    name, more = TOGETHER[kind]
    finetune(output=tmp_path, **settings(name, epochs=2, batch_size=4, **more))
    assert read_json(two_processes / kind / "finetuning.json")["processes"] == 2
    assert losses(two_processes / kind) == pytest.approx(losses(tmp_path), rel=1e-3)


def test_fetching_processes_change_nothing(settings, tmp_path):
    for count in (0, 2):
        finetune(output=tmp_path / str(count), **settings("llava", epochs=2, loader_workers=count))
    assert (
        losses(tmp_path / "2") == losses(tmp_path / "0")
        and read_json(tmp_path / "2" / "finetuning.json")["loader_workers"] == 2
    )
    assert saved(tmp_path / "2" / "model", False) == saved(tmp_path / "0" / "model", False)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("which", ["train", "val"])
def test_a_broken_image_is_named_from_any_process(settings, folder, tmp_path, count, which):
    shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("llava", "qwen", "gemma3", "paligemma"))
    broken = tmp_path / "data" / ("00000003_front.png" if which == "train" else "00000009_front.png")
    broken.write_bytes(broken.read_bytes()[:-60])
    files = dict(
        train_data=tmp_path / "data" / "train.json",
        val_data=tmp_path / "data" / "val.json",
        image_folder=tmp_path / "data",
    )
    with pytest.raises(DatasetError) as e:
        finetune(output=tmp_path / "run", **settings("llava", epochs=1, accumulate=2, loader_workers=count, **files))
    assert e.value.reason == "bad_image" and e.value.where.endswith(broken.name)


def test_how_many_processes_fetch(monkeypatch):
    monkeypatch.setattr(tuning, "available_workers", lambda: 16)
    assert tuning.spare_workers() == 0 or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (
        tuning.spare_workers() == 8 and tuning.spare_workers(device="cpu") == 0 and tuning.spare_workers(3, "cpu") == 3
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert tuning.spare_workers() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert tuning.spare_workers() == 0
    with pytest.raises(DatasetError):
        tuning.spare_workers(-1)


# --- answers


@pytest.fixture
def asked(folder, tmp_path):
    "A folder that is a dataset as far as `answer` looks."
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(folder / "train.json", data)
    (data / "tinyllava_metadata.json").write_text('{"language": "compact"}')
    for image in folder.glob("*.png"):
        shutil.copy(image, data)
    return data


def test_stopped_answers_go_on(base, asked, tmp_path, monkeypatch, capsys):
    "Ctrl-C in the second batch: what it says is what the same command then does."
    write, calls = answering.sample_answers, []

    def stops(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    words = ["answer", str(base("qwen")), str(asked), "--split", "train", "--samples", "4", "--batch-size", "2"]
    words += ["--max-tokens", "3", "--device", "cpu", "--output"]
    monkeypatch.setattr(answering, "sample_answers", stops)
    assert main([*words, str(tmp_path / "cut.jsonl")]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert len((tmp_path / "cut.jsonl").read_text().splitlines()) == 2
    assert main([*words, str(tmp_path / "cut.jsonl")]) == 0 and calls == [2, 2, 2]
    assert main([*words, str(tmp_path / "whole.jsonl")]) == 0
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_answers_are_written_in_the_precision_asked_for(base, asked, tmp_path, monkeypatch):
    used, write = [], answering.sample_answers
    seen = lambda model, *rest: used.append(model.dtype) or write(model, *rest)
    monkeypatch.setattr(answering, "sample_answers", seen)
    for choice in ({}, dict(dtype="bfloat16"), dict(dtype="float32")):
        made = answering.answer(
            base("qwen"),
            asked,
            tmp_path / "said.jsonl",
            split="train",
            samples=2,
            max_tokens=3,
            device="cpu",
            restart=True,
            **choice,
        )
        assert made["samples"] == 2
    assert used == [torch.float32, torch.bfloat16, torch.float32]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert (
        answering._in_bf16("auto", torch.device("cuda"))
        and answering._in_bf16("auto", torch.device("cuda:1"))
        and not answering._in_bf16("auto", torch.device("cpu"))
        and not answering._in_bf16("float32", torch.device("cuda"))
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert not answering._in_bf16("auto", torch.device("cuda"))
    assert main(["answer", str(base("qwen")), str(asked), "--dtype", "float8"]) == 2
