"""Each format is read by the tool that it is for, with that tool's own code, and a model is trained on it where the
tool can train; the reward is called as trainers call it. What is not installed is skipped."""

import base64
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from builders import environment
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset
from cadvlm.corpus.formats import FORMATS
from cadvlm.corpus.trainers import split_files
from cadvlm.errors import error_of
from cadvlm.files import read_json, write_json
from cadvlm.cad.sequence import to_deepcad
from cadvlm.learn.reward import Reward, reward
from cadvlm.stages.convert import convert
from cadvlm.stages.render import render
from cadvlm.synth.histories import part

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the warnings of the trainers
EACH = pytest.mark.parametrize("format", FORMATS)
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
        for format in FORMATS:
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

    return str(vlms.base(tmp_path_factory.mktemp("models"), "qwen"))


def texts_of(made, format, split):
    "`(question, answer)` of each sample of LLaVA's file."
    samples = read_json(made / format / SPLITS[split])
    return [tuple(t["value"] for t in s["conversations"]) for s in samples]


PAGES = pytest.mark.parametrize("page", ["index", "my_trainer"])


def typed(root, page, language):
    "The blocks of a language on a page."
    cells = read_json(root / "nbs" / f"{page}.ipynb")["cells"]
    page = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


REAL = "Qwen/Qwen2.5-VL-3B-Instruct"  # on the page; a tiny one takes its place


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


@EACH
def test_the_same_texts_in_every_format(made, format):
    "So what `validate --tokenizer` counts holds for all."
    for split in FORMATS[format].splits:
        expected = texts_of(made, format, split)
        match format:
            case "messages":
                continue  # the test above
            case "lmms-eval":
                rows = pq.read_table(made / format / "lmms-eval" / "test-00000-of-00001.parquet").to_pylist()
                found = [("<image>\n" + r["prompt"][0]["content"][1]["text"], r["code"]) for r in rows]
            case "vlmevalkit":
                rows = pd.read_csv(made / format / "vlmevalkit" / "cadvlm.tsv", sep="\t")
                found = [("<image>\n" + r.question, r.answer) for r in rows.itertuples()]
            case "llama-factory":
                rows = read_json(made / format / "llama-factory" / f"{split}.json")
                found = [tuple(t["value"] for t in r["conversations"]) for r in rows]
            case "ms-swift":
                rows = map(json.loads, (made / format / "ms-swift" / f"{split}.jsonl").read_text().splitlines())
                found = [tuple(m["content"] for m in r["messages"]) for r in rows]
        assert found == expected


@EACH
def test_validate_accepts_a_format_and_misses_a_file(made, format, tmp_path):
    folder = shutil.copytree(made / format, tmp_path / "dataset")
    (folder / "dataset_info.json").write_text('{"cadvlm": "1", "counts": {"train": 6, "validation": 1, "test": 1}}')
    assert main(["validate", str(folder), "--workers", "1"]) == 0
    (name,) = split_files(format, "test", 1)
    assert any(line.endswith(name) for line in (folder / "SHA256SUMS").read_text().splitlines())
    (folder / name).unlink()
    assert main(["validate", str(folder), "--workers", "1"]) == 1


@EACH
def test_another_format_removes_the_files_of_the_last(made, format, tmp_path):
    folder = shutil.copytree(made / format, tmp_path / "dataset")
    (folder / FORMATS[format].folder / "mine.txt").write_text("of somebody else")
    convert(folder, language="compact", workers=1)
    assert [p.name for p in (folder / FORMATS[format].folder).iterdir()] == ["mine.txt"]
    assert not (folder / "README.md").exists()


def test_a_column_of_step_files(made, tmp_path):
    pytest.importorskip("OCP")
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
    trl = pytest.importorskip("trl", "1.0", "needs trl: pip install 'cadvlm[rl]'")
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
    trl = pytest.importorskip("trl", "1.0", "needs trl: pip install 'cadvlm[rl]'")
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


@PAGES
def test_trl_lines_of_the_page_run_as_typed(root, made, model, tmp_path, page):
    "Two trainings, of one step each: what the second begins with is what the first has saved."
    pytest.importorskip("trl", "1.0", "needs trl: pip install 'cadvlm[rl]'")
    short = "use_cpu=True, bf16=False, max_steps=1, report_to=[], per_device_train_batch_size=2"
    lines = "\n".join(block for block in typed(root, page, "python") if "from trl import" in block)
    lines = lines.replace("data/synthetic_1k", str(made / "messages"))
    lines = lines.replace(REAL, model).replace("max_length=None", f"max_length=None, {short}")
    lines = lines.replace("max_completion_length=1024", f"max_completion_length=12, num_generations=2, {short}")
    assert lines.count(short) == 2 and "SFTTrainer(" in lines and "cadvlm.reward" in lines
    (tmp_path / "train.py").write_text(lines)
    there = environment() | dict(HF_HUB_OFFLINE="1", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=there, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert (tmp_path / "runs" / "sft" / "model.safetensors").is_file() and (tmp_path / "runs" / "rl").is_dir()


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


@PAGES
def test_llama_factory_line_of_the_page_runs_as_typed(root, made, model, tmp_path, page):
    pytest.importorskip("llamafactory", reason="needs llamafactory")
    (block,) = (b for b in typed(root, page, "sh") if "llamafactory-cli" in b)
    line = block[block.index("llamafactory-cli") :].replace("\\\n", " ").replace(REAL, model)
    program, *words = shlex.split(line.replace("data/synthetic_1k", str(made / "llama-factory")))
    program = Path(sys.executable).with_name(program)
    there = environment() | dict(HF_HUB_OFFLINE="1", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    words += ["--max_steps", "1"]
    done = subprocess.run([program, *words], cwd=tmp_path, env=there, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert [*(tmp_path / "runs" / "sft").glob("*.safetensors")]


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


# --- lmms-eval


def task_of(made):
    "The task of lmms-eval and its folder."
    folder = made / "lmms-eval" / "lmms-eval"
    return yaml.safe_load((folder / "cadvlm.yaml").read_text().replace("!function ", "")), folder


def test_lmms_eval_schema(made):
    "lmms-eval 0.7.3, docs/task_guide.md; where the tool is not installed."
    task, folder = task_of(made)
    assert task["task"] == "cadvlm_lmms_eval" and task["output_type"] == "generate_until"
    assert task["dataset_path"] == "parquet" and task["test_split"] in task["dataset_kwargs"]["data_files"]
    assert all((folder / name).is_file() for name in task["dataset_kwargs"]["data_files"]["test"])
    called = runpy.run_path(str(folder / "utils.py"))
    named = [task[key].removeprefix("utils.") for key in ("doc_to_visual", "doc_to_text", "process_results")]
    assert all(callable(called[name]) for name in named)
    (row,) = pq.read_table(folder / task["dataset_kwargs"]["data_files"]["test"][0]).to_pylist()
    assert row[task["doc_to_target"]]
    scores = called["process_results"](row, [row["code"]])
    assert scores.keys() == {m["metric"] for m in task["metric_list"]} and set(scores.values()) == {1.0}


@pytest.mark.parametrize("says, expected", [("the truth", 1.0), ("nonsense", 0.0)])
def test_lmms_eval_scores_a_model(made, monkeypatch, tmp_path, says, expected):
    "The whole of lmms-eval, with a model that says the truth or nonsense."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path))
    evaluator = pytest.importorskip("lmms_eval.evaluator", reason="needs lmms-eval")
    from lmms_eval.api.model import lmms
    from lmms_eval.tasks import TaskManager

    seen = []

    class Model(lmms):
        def generate_until(self, requests):
            for question, settings, visual, index, task, split in (request.args for request in requests):
                row = self.task_dict[task][split][index]
                seen.append((question, settings["until"], [image.size for image in visual(row)]))
                yield row["code"] if says == "the truth" else "I see a plate.\n\nIt has a hole."

        def loglikelihood(self, requests):
            raise NotImplementedError

        generate_until_multi_round = loglikelihood

    task, folder = task_of(made)
    tasks = TaskManager(include_path=str(folder), model_name="dummy")
    found = evaluator.simple_evaluate(Model(), tasks=[task["task"]], task_manager=tasks, batch_size=1)
    ((question, _),) = texts_of(made, "lmms-eval", "test")
    assert seen == [(question.removeprefix("<image>\n"), [], [(64, 64)])]
    scores = found["results"][task["task"]]
    assert [scores[f"{name},none"] for name in ("iou", "valid")] == [expected] * 2


# --- VLMEvalKit


def test_vlmevalkit_schema(made):
    "VLMEvalKit 0.2, docs/en/Development.md, TSV with images in base64; where the tool is not installed."
    table = pd.read_csv(made / "vlmevalkit" / "vlmevalkit" / "cadvlm.tsv", sep="\t")
    assert table["index"].is_unique and {"image", "question", "answer", "split"} <= {*table.columns}
    ((question, answer),) = texts_of(made, "vlmevalkit", "test")
    (row,) = table.itertuples()
    assert (row.question, row.answer, row.split) == (question.removeprefix("<image>\n"), answer, "test")
    assert Image.open(io.BytesIO(base64.b64decode(row.image))).size == (64, 64)


@pytest.mark.parametrize("says, expected", [("the truth", 1.0), ("nonsense", 0.0)])
def test_vlmevalkit_scores_a_model(made, monkeypatch, tmp_path, says, expected):
    "VLMEvalKit builds the dataset by its name, asks, and evaluates the table of predictions."
    data = shutil.copytree(made / "vlmevalkit" / "vlmevalkit", tmp_path / "LMUData")
    monkeypatch.setenv("LMUData", str(data))
    kit = pytest.importorskip("vlmeval.dataset", reason="needs VLMEvalKit")
    monkeypatch.setattr(kit, "DATASET_CLASSES", [*kit.DATASET_CLASSES])
    runpy.run_path(str(data / "run_cadvlm.py"))
    dataset = kit.build_dataset("cadvlm")
    ((question, answer),) = texts_of(made, "vlmevalkit", "test")
    image, text = dataset.build_prompt(0)
    assert text["value"] == question.removeprefix("<image>\n") and Image.open(image["value"]).size == (64, 64)
    table = dataset.data.drop(columns="image").assign(prediction=answer if says == "the truth" else "I see a plate.")
    table.to_excel(tmp_path / "predictions.xlsx", index=False)
    assert dataset.evaluate(str(tmp_path / "predictions.xlsx")) == dict(iou=expected, valid=expected, samples=1)


def test_a_benchmark_needs_a_part_in_the_test_split(made, tmp_path):
    folder = shutil.copytree(made / "plain", tmp_path / "dataset")
    split = read_json(folder / "train_val_split.json")
    write_json(folder / "train_val_split.json", split | dict(train=split["train"] + split["test"], test=[]))
    assert error_of(convert, folder, format="lmms-eval", workers=1).where == "format"
    assert error_of(convert, folder, format="vlmevalkit", workers=1).where == "format"
