"""Fine-tuning: what reaches the model, what is rejected, going on after a stop, adapters against merged
weights. The base is tiny and made here."""
import json, os

import numpy as np
import pytest
from PIL import Image

from cadvlm.app.cli import load_config, main
from cadvlm.errors import DatasetError
from cadvlm.files import read_json
from cadvlm.errors import CadError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from cadvlm.learn import conversations as conversing, finetune as tuning
from cadvlm.learn.conversations import (IGNORED, Samples, check_separate, collate, encode_sample, load_conversations,
                                        make_tiny)
from cadvlm.learn.finetune import finetune, load_base

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")
QUICK = dict(device="cpu", batch_size=2, eval_steps=100)


def row(id, answer, question="<image>\nWhich part?"):
    return dict(id=id, image=f"{id}.png",
                conversations=[{"from": "human", "value": question}, {"from": "gpt", "value": answer}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Twelve plates with a bar somewhere: the answer says where."
    folder = tmp_path_factory.mktemp("finetune")
    rows = []
    for k in range(12):
        image = np.full((64, 64, 3), 255, np.uint8)
        image[4 + 4 * k : 10 + 4 * k] = 0
        Image.fromarray(image).save(folder / f"{k:08}_front.png")
        rows.append(row(f"{k:08}_front", f"+ z 0 {k * 8} R 0 0 {k} 9"))
    (folder / "train.json").write_text(json.dumps(rows[:8]))
    (folder / "val.json").write_text(json.dumps(rows[8:]))
    make_tiny(folder / "base", load_conversations(folder / "train.json", folder), image_size=32)
    return folder


@pytest.fixture
def data(folder):
    return dict(train_data=folder / "train.json", val_data=folder / "val.json", image_folder=folder,
                base=str(folder / "base"))


def losses(report_folder):
    return [r["loss"] for r in read_json(report_folder / "finetuning.json")["history"] if "loss" in r]


def test_only_the_answer_has_labels_and_ends(folder):
    processor = load_base(folder / "base")[1]
    for c in load_conversations(folder / "train.json", folder):
        made = encode_sample(processor, c)
        kept = made["labels"][0] != IGNORED
        assert processor.tokenizer.decode(made["labels"][0][kept], skip_special_tokens=True) == c.answer
        assert made["labels"][0, -1] == processor.tokenizer.eos_token_id and made["attention_mask"].all()
        image = processor.tokenizer.convert_tokens_to_ids("<image>")
        assert (made["input_ids"] == image).sum() == (32 // 16) ** 2 and not (made["labels"] == image).any()


def test_an_answer_that_holds_marks_of_the_template_keeps_its_labels(folder):
    processor = load_base(folder / "base")[1]
    c = load_conversations(folder / "train.json", folder)[0]._replace(answer="assistant: user: + z ASSISTANT:")
    made = encode_sample(processor, c)
    assert processor.tokenizer.decode(made["labels"][0][made["labels"][0] != IGNORED],
                                      skip_special_tokens=True) == c.answer


@pytest.mark.parametrize("wrong, word",
                         [(row("a_front", "+ z", "Which part?"), "<image>"),
                          (row("a_front", "+ z", "<image><image>"), "2 times"), (row("a_front", " "), "answer of gpt"),
                          (dict(id="a"), "conversations"), (row("../../etc/passwd", "+ z"), "below"),
                          (17, "conversations")])
def test_bad_samples_name_themselves(folder, tmp_path, wrong, word):
    (tmp_path / "bad.json").write_text(json.dumps([wrong]))
    with pytest.raises(DatasetError) as e:
        load_conversations(tmp_path / "bad.json", folder)
    assert e.value.reason == "bad_sample" and word in str(e.value)


def test_what_is_missing_or_shared_is_rejected(folder, data, tmp_path):
    (tmp_path / "gone.json").write_text(json.dumps([row("gone_front", "+ z")]))
    for change, reason in ((dict(train_data=tmp_path / "gone.json"), "missing_file"),
                           (dict(val_data=folder / "train.json"), "leaked"), (dict(base=str(tmp_path)), "missing_base"),
                           (dict(base=None), "bad_setting"), (dict(tiny=True), "bad_setting"),
                           (dict(image_folder=None), "bad_setting"), (dict(epochs=0.0), "bad_setting"),
                           (dict(warmup=1.0), "bad_setting"), (dict(device="tpu"), "bad_setting"),
                           (dict(max_length=3), "bad_setting"),
                           (dict(use_lora=True, lora_targets=("qkv",)), "bad_setting")):
        with pytest.raises(DatasetError) as e:
            finetune(output=tmp_path / "run", **QUICK | data | change)
        assert e.value.reason == reason, change
    views = [conversing.Conversation(f"00000001_{v}", (folder / f"{v}.png",), "", "+") for v in ("front", "top")]
    with pytest.raises(DatasetError):
        check_separate(views[:1], views[1:])


def test_long_samples_are_counted_and_dropped(folder):
    processor, samples = load_base(folder / "base")[1], load_conversations(folder / "train.json", folder)
    long = samples[0]._replace(answer="+ z 0 1 R " + "12 34 " * 200)
    made = Samples(processor, [*samples, long], 100)
    assert made.too_long == 1
    assert made.kept == samples
    assert list(made.lengths) == [encode_sample(processor, c)["input_ids"].shape[1] for c in samples]


def test_padding_changes_no_loss(folder):
    model, processor = load_base(folder / "base")
    samples = [encode_sample(processor, c) for c in load_conversations(folder / "train.json", folder)]
    with torch.no_grad():
        each = [model(**s) for s in samples]
        batch = collate(samples, processor.tokenizer.pad_token_id)
        del batch["ids"]
        whole = model(**batch)
    counts = [int((s["labels"] != IGNORED).sum()) for s in samples]
    assert float(whole.loss) == pytest.approx(sum(float(e.loss) * n for e, n in zip(each, counts)) / sum(counts),
                                              rel=1e-4)


def test_what_is_frozen_stays(folder, data, tmp_path):
    finetune(output=tmp_path / "run", **QUICK | data | dict(epochs=1, learning_rate=1e-3))
    before, after = (dict(load_base(p)[0].named_parameters()) for p in (folder / "base", tmp_path / "run" / "model"))
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and not any("vision" in n for n in moved) and any("projector" in n for n in moved)


def test_a_stopped_run_goes_on_to_the_same_losses(data, tmp_path, monkeypatch):
    settings = QUICK | data | dict(epochs=4, learning_rate=1e-3, eval_steps=4, use_lora=True)
    finetune(output=tmp_path / "whole", **settings)
    real = tuning._Trainer.training_step

    def stops(self, *args, **kwargs):
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(tuning._Trainer, "training_step", stops)
    with pytest.raises(KeyboardInterrupt):
        finetune(output=tmp_path / "cut", **settings)
    monkeypatch.undo()
    finetune(output=tmp_path / "cut", **settings)
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_a_loss_that_is_no_number_names_its_samples(folder, data, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "base", tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    name = next(n for n in weights if "norm" in n and "language" in n)
    save_file(weights | {name: weights[name] * float("nan")}, tmp_path / "base" / "model.safetensors",
              metadata={"format": "pt"})
    with pytest.raises(CadError) as e:
        finetune(output=tmp_path / "run", **QUICK | data | dict(base=str(tmp_path / "base")))
    assert e.value.reason == "nan_loss" and "_front" in e.value.message and not (tmp_path / "run" / "model").exists()


def test_validation_loss_is_that_of_all_tokens(folder, data, tmp_path):
    from cadvlm.learn.answer_loss import answer_losses

    ids = [f"{k:08}_front" for k in range(8, 12)]
    rows = [row(id, "+ z 0 8 R 0 0 7 9" + " C 1 2 3" * (5 * k)) for k, id in enumerate(ids)]
    (tmp_path / "val.json").write_text(json.dumps([r | dict(image=f"{r['id']}.png") for r in rows]))
    finetune(output=tmp_path / "run", **QUICK | data | dict(val_data=tmp_path / "val.json", batch_size=3, eval_steps=0))
    seen = [r["eval_loss"] for r in read_json(tmp_path / "run" / "finetuning.json")["history"] if "eval_loss" in r]
    val = load_conversations(tmp_path / "val.json", folder)
    nats, tokens = answer_losses(*load_base(tmp_path / "run" / "model"), val)
    assert len(set(tokens.tolist())) == 4 and seen[-1] == pytest.approx(nats.sum() / tokens.sum(), rel=1e-4)


def test_early_stopping_keeps_the_best(data, tmp_path):
    report = finetune(output=tmp_path / "run", **QUICK | data
                      | dict(epochs=40, learning_rate=5e-3, eval_steps=4, early_stopping=1,
                             gradient_checkpointing=True))
    assert report["steps"] < 160
    seen = [r["eval_loss"] for r in read_json(tmp_path / "run" / "finetuning.json")["history"] if "eval_loss" in r]
    assert seen[-1] > min(seen) and len(seen) >= 2


def test_the_command_the_file_and_the_answers(folder, tmp_path, capsys):
    assert load_config("config/finetune_config.yaml" if os.path.exists("config") else "../config/finetune_config.yaml",
                       "finetune")["lora_rank"] == 128
    (tmp_path / "c.yaml").write_text("finetune:\n  epochs: 1\n  batch_size: 2\n  device: cpu\n  use_lora: true\n  "
                                     "eval_steps: 100\n")
    flags = ["--train-data", str(folder / "train.json"), "--val-data", str(folder / "val.json"), "--image-folder",
             str(folder), "--output", str(tmp_path / "run"), "--tiny", "--config", str(tmp_path / "c.yaml"),
             "--batch-size", "4"]
    assert main(["finetune", *flags]) == 0 and "LoRA" in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "finetuning.json")["batch_size"] == 4
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").exists()
    assert main(["finetune", *flags, "--epochs", "-1"]) == 2 and "epochs" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("finetune:\n  epoch: 1\n")
    assert main(["finetune", *flags]) == 2 and "no such setting" in capsys.readouterr().err
