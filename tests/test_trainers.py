"""Each format is read by the tool that it is for, with that tool's own code, and a model is trained on it where the
tool can train; the reward is called as trainers call it. What is not installed is skipped."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from builders import environment
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset
from cadvlm.corpus.trainers import FOLDERS
from cadvlm.errors import error_of
from cadvlm.files import read_json, write_json
from cadvlm.cad.sequence import to_deepcad
from cadvlm.learn.reward import Reward, reward
from cadvlm.stages.convert import convert
from cadvlm.stages.render import render
from cadvlm.synth.histories import part

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the warnings of the trainers
FORMATS = pytest.mark.parametrize("format", FOLDERS)
SPLITS = dict(train="train.json", validation="val.json", test="test.json")


@pytest.fixture(scope="module")
def made(once):
    "The folder of a dataset of eight parts in each format, and of a cache."

    def make(folder):
        dataset = Dataset(folder / "plain")
        ids = [f"{k:08}" for k in range(8)]
        for k, id in enumerate(ids):
            write_json(dataset.json_path(id), to_deepcad(part(0, k)))
        write_json(
            dataset.path / "train_val_split.json", dict(train=ids[:6], validation=ids[6:7], test=ids[7:])
        )
        render(dataset.path, views=("front",), size=64, workers=1)
        for format in FOLDERS:
            shutil.copytree(dataset.path, folder / format)
            convert(folder / format, format=format, language="compact", workers=1)

    return once("trainers", make)


@pytest.fixture
def loaded(made, monkeypatch, tmp_path):
    "The dataset of TRL's format, as Hugging Face's library opens its folder."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets").load_dataset(str(made / "messages"), cache_dir=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A Qwen2.5-VL with random weights, small enough for a test."
    pytest.importorskip("transformers")
    import vlms

    return str(vlms.make("qwen", tmp_path_factory.mktemp("models")))


def texts_of(made, format, split):
    "`(question, answer)` of each sample of LLaVA's file."
    samples = read_json(made / format / SPLITS[split])
    return [tuple(t["value"] for t in s["conversations"]) for s in samples]


# --- every format


def test_load_dataset_decodes_images_and_says_what_a_reward_needs(loaded, made):
    assert {k: len(v) for k, v in loaded.items()} == dict(train=6, validation=1, test=1)
    for split in SPLITS:
        for row, (question, answer) in zip(loaded[split], texts_of(made, "messages", split), strict=True):
            (image,), (asked, answered) = row["images"], row["messages"]
            assert image.size == (64, 64) and row["split"] == split and row["view"] == "front"
            assert [p["type"] for p in asked["content"]] == ["image", "text"]
            assert "<image>\n" + asked["content"][1]["text"] == question
            assert answered["content"][0]["text"] == row["code"] == answer and row["prompt"] == [asked]
            assert row["id"] == row["part"] + "_front" and row["extrudes"] >= 1 and row["frame"]["scale"] > 0


@FORMATS
def test_the_same_texts_in_every_format(made, format):
    "So what `validate --tokenizer` counts holds for all."
    for split in SPLITS:
        expected = texts_of(made, format, split)
        match format:
            case "messages":
                continue  # the test above
            case "llama-factory":
                rows = read_json(made / format / "llama-factory" / f"{split}.json")
                found = [tuple(t["value"] for t in r["conversations"]) for r in rows]
            case "ms-swift":
                rows = map(json.loads, (made / format / "ms-swift" / f"{split}.jsonl").read_text().splitlines())
                found = [tuple(m["content"] for m in r["messages"]) for r in rows]
        assert found == expected


@FORMATS
def test_validate_accepts_a_format_and_misses_a_file(made, format, tmp_path):
    folder = shutil.copytree(made / format, tmp_path / "dataset")
    (folder / "dataset_info.json").write_text('{"cadvlm": "1", "counts": {"train": 6, "validation": 1, "test": 1}}')
    assert main(["validate", str(folder), "--workers", "1"]) == 0
    assert any(f"{FOLDERS[format]}/train" in line for line in (folder / "SHA256SUMS").read_text().splitlines())
    next((folder / FOLDERS[format]).glob("train*")).unlink()
    assert main(["validate", str(folder), "--workers", "1"]) == 1


@FORMATS
def test_another_format_removes_the_files_of_the_last(made, format, tmp_path):
    folder = shutil.copytree(made / format, tmp_path / "dataset")
    (folder / FOLDERS[format] / "mine.txt").write_text("of somebody else")
    convert(folder, language="compact", workers=1)
    assert [p.name for p in (folder / FOLDERS[format]).iterdir()] == ["mine.txt"]
    assert not (folder / "README.md").exists()


def test_a_column_of_step_files(made, tmp_path):
    pytest.importorskip("OCP")
    import pyarrow.parquet as pq

    folder = shutil.copytree(made / "plain", tmp_path / "dataset")
    convert(folder, format="messages", step=True, licence="cc0-1.0", workers=1)
    (step,) = pq.read_table(next((folder / "data").glob("test*")))["step"].to_pylist()
    (folder / "part.step").write_text(step)
    assert main(["export", str(folder / "part.step"), str(folder / "part.stl")]) == 0
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc0-1.0" and "| `step` |" in card
    assert error_of(convert, folder, step=True, workers=1).where == "step"


# --- TRL


def test_trl_trains_on_the_table_as_it_is(loaded, model, tmp_path):
    trl = pytest.importorskip("trl", reason="needs trl: pip install 'cadvlm[rl]'")
    settings = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, max_length=None, report_to=[],
        use_cpu=True, bf16=False, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = trl.SFTTrainer(model, settings, train_dataset=loaded["train"])
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)


def test_trl_asks_for_rewards_for_ten_steps(loaded, model, tmp_path):
    "Three of them: of the true code, of the drawing alone, and whether an answer is a part."
    trl = pytest.importorskip("trl", reason="needs trl: pip install 'cadvlm[rl]'")
    seen = []

    def watched(completions, **columns):
        seen.append((len(completions), {"code", "language", "images", "view"} <= columns.keys()))
        return reward(completions, **columns)

    settings = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=10, per_device_train_batch_size=2, num_generations=2,
        max_completion_length=12, report_to=[], use_cpu=True, bf16=False, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    funcs = [watched, Reward("drawing", workers=1), Reward({"valid": 0.5, "iou": 0.5}, workers=1)]
    trainer = trl.GRPOTrainer(model, funcs, settings, train_dataset=loaded["train"])
    trainer.train()
    assert trainer.state.global_step == 10 and set(seen) == {(2, True)} and len(seen) >= 10
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logged) == 10 and "rewards/cadvlm_drawing/mean" in logged[0]


def test_a_reward_works_in_a_script_without_a_main_guard(tmp_path):
    "As training scripts are: workers must not begin the training once more."
    script = tmp_path / "train.py"
    script.write_text(
        "from cadvlm import reward\nprint('begun', flush=True)\n"
        "print(reward(['+ z -1 1 O 0 0 100'], code=['+ z -1 1 O 0 0 100'], language='compact'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment(), timeout=300)
    assert done.stdout.split("\n") == ["begun", "[1.0]", ""], done.stderr


# --- LLaMA-Factory


def test_llama_factory_loads_the_samples(made):
    loader = pytest.importorskip("llamafactory.data.loader", reason="needs llamafactory")
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments, ModelArguments

    folder = str(made / "llama-factory" / "llama-factory")
    chosen = DataArguments(dataset="cadvlm_train", dataset_dir=folder, media_dir=folder)
    (attributes,) = get_dataset_list(["cadvlm_train"], folder)
    training = SimpleNamespace(local_process_index=0, should_log=False)
    rows = loader._load_single_dataset(attributes, ModelArguments(model_name_or_path="none"), chosen, training)
    for row, (question, answer) in zip(rows, texts_of(made, "llama-factory", "train"), strict=True):
        assert row["_prompt"] == [dict(role="user", content=question)]
        assert row["_response"] == [dict(role="assistant", content=answer)]
        assert [Image.open(path).size for path in row["_images"]] == [(64, 64)]


def test_llama_factory_schema(made):
    "LLaMA-Factory 0.9.5, data/README.md, ShareGPT format with images; where the tool is not installed."
    folder = made / "llama-factory" / "llama-factory"
    info = read_json(folder / "dataset_info.json")
    assert info.keys() == {f"cadvlm_{s}" for s in SPLITS}
    for about in info.values():
        assert about["formatting"] == "sharegpt" and about["columns"] == dict(messages="conversations", images="images")
        for row in read_json(folder / about["file_name"]):
            assert [t["from"] for t in row["conversations"]] == ["human", "gpt"]
            assert sum(t["value"].count("<image>") for t in row["conversations"]) == len(row["images"]) == 1
            assert (folder / row["images"][0]).is_file()


# --- ms-swift


def test_ms_swift_loads_the_samples(made, monkeypatch, tmp_path):
    monkeypatch.setenv("ROOT_IMAGE_DIR", str(made / "ms-swift"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    swift = pytest.importorskip("swift.dataset", reason="needs ms-swift")
    from swift.template.vision_utils import load_image

    path = str(made / "ms-swift" / "ms-swift" / "train.jsonl")
    rows, _ = swift.load_dataset(path, strict=True, load_from_cache_file=False, remove_unused_columns=False)
    for row, (question, answer) in zip(rows, texts_of(made, "ms-swift", "train"), strict=True):
        assert [(m["role"], m["content"]) for m in row["messages"]] == [("user", question), ("assistant", answer)]
        assert load_image(row["images"][0]["path"]).size == (64, 64)
        (found,) = Reward("drawing", image_folder=made / "ms-swift", workers=1)(
            [row["code"]], images=[row["images"]], view=[row["view"]], language=[row["language"]]
        )
        assert found > 0.8  # the code is in whole units


def test_ms_swift_takes_the_reward_by_name():
    rewards = pytest.importorskip("swift.rewards", reason="needs ms-swift")
    rewards.orms["cadvlm"] = lambda args=None: Reward("valid", workers=1)
    made = rewards.orms.pop("cadvlm")(args=None)
    assert made(completions=["+ z -1 1 O 0 0 100", "no"], language=["compact"] * 2, solution=[1, 2]) == [1.0, 0.0]


def test_ms_swift_schema(made):
    "ms-swift 4.6, docs/source_en/Customization/Custom-dataset.md, multimodal; where the tool is not installed."
    folder = made / "ms-swift"
    for split in SPLITS:
        for row in map(json.loads, (folder / "ms-swift" / f"{split}.jsonl").read_text().splitlines()):
            assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
            assert row["messages"][0]["content"].count("<image>") == len(row["images"]) == 1
            assert (folder / row["images"][0]).is_file() and not os.path.isabs(row["images"][0])
