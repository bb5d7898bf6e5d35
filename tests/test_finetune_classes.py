"""Fine-tuning of each class of vision-language model: what is asked and learned, images in any number and size, layers
with adapters, losses of steps of several batches, adapters that are saved, answers."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from cadvlm.app.cli import main
from cadvlm.errors import DatasetError
from cadvlm.files import read_json

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
import vlms

from cadvlm.learn import finetune as tuning
from cadvlm.learn.answer_loss import answer_losses, token_loss
from cadvlm.learn.conversations import (
    IGNORED,
    batch_for,
    encode_sample,
    end_of_answer,
    load_conversations,
    read_images,
)
from cadvlm.learn.finetune import finetune, load_base
from cadvlm.learn.write_answers import write_answers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
EVERY, SECOND, CHATTING = vlms.cases(), vlms.cases(every=2), vlms.cases("paligemma")
SIZES = [(56, 56), (56, 28), (28, 56), (56, 56)]  # width and height; some classes cut them into tiles


def row(name, images, question, answer):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return dict(id=name, image=images, conversations=turns)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "Eight plates with a bar somewhere, seen in sizes of all kinds; answers of one to four sentences say where."
    folder = tmp_path_factory.mktemp("plates")
    rows = []
    for k in range(8):
        name, (width, height) = f"{k:08}_front", SIZES[k % 4]
        image = np.full((height, width, 3), 255, np.uint8)
        image[:, 3 * k : 3 * k + 6] = 0
        Image.fromarray(image).save(folder / f"{name}.png")
        rows.append(row(name, f"{name}.png", "<image>\nWhich part?", " ".join([f"+ z 0 {k}"] * (1 + k % 4))))
    two = "First <image> then\n<image>\nWhich part?"
    rows.append(row("two_front", [rows[0]["image"], rows[1]["image"]], two, "+ z 1 R"))
    for name, some in dict(train=rows[:4], val=rows[4:8], test=rows[4:8], two=rows[8:]).items():
        (folder / f"{name}.json").write_text(json.dumps(some))
    (folder / "tinyllava_metadata.json").write_text('{"language": "compact"}')
    return folder


@pytest.fixture(scope="module")
def base(data):
    "The folder of a base by the name of its class."
    return partial(vlms.base, data)


@pytest.fixture(scope="module")
def settings(data, base):
    "Two steps of adapters with checkpointed gradients, each of the four samples, one after the other."
    files = dict(train_data=data / "train.json", val_data=data / "val.json", image_folder=data)
    method = dict(use_lora=True, gradient_checkpointing=True, learning_rate=1e-2, warmup=0.0)
    steps = dict(epochs=2, batch_size=1, accumulate=4, device="cpu", eval_steps=100)
    return lambda name, **more: files | method | steps | dict(base=str(base(name))) | more


@pytest.fixture(scope="module")
def tuned(settings, tmp_path_factory):
    "The folder of a run of a class, made once."
    made = {}

    def once(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            finetune(output=made[name], **settings(name))
        return made[name]

    return once


def conversations(data, name="train"):
    return load_conversations(data / f"{name}.json", data)


def losses(output):
    return [r["loss"] for r in read_json(output / "finetuning.json")["history"] if "loss" in r]


# --- what is asked and what is learned


@EVERY
def test_what_is_learned_is_the_answer_and_its_end(data, base, name):
    model, processor = load_base(base(name))
    for c in [*conversations(data), *conversations(data, "two")]:
        made = encode_sample(processor, c)
        ids, labels = made["input_ids"][0], made["labels"][0]
        kept = labels != IGNORED
        first = int(kept.nonzero()[0])
        assert kept[first:].all() and torch.equal(ids[kept], labels[kept])
        blank = " " * (name in ("idefics3", "smolvlm"))  # their prompts end with "Assistant:"
        assert processor.tokenizer.decode(ids[kept]) == blank + c.answer + vlms.ENDS[name]
        assert torch.equal(ids[~kept], encode_sample(processor, c, answer=False)["input_ids"][0])
        assert processor.tokenizer.decode(ids[-1]) == vlms.ENDS[name]
        assert end_of_answer(processor, c) == ids[-1]


# not of OneVision, whose template writes a turn that is there otherwise than one to come, nor of the tiny LLaVA, whose
# prompt ends with a blank that would be one token with what follows
@vlms.cases("paligemma", "onevision", "llava")
def test_the_tokens_are_those_of_the_template_for_the_whole_conversation(data, base, name):
    processor = load_base(base(name))[1]
    for c in conversations(data):
        question = [dict(type="image", image=read_images(c)[0]), dict(type="text", text="Which part?")]
        turns = [
            dict(role="user", content=question),
            dict(role="assistant", content=[dict(type="text", text=c.answer)]),
        ]
        own = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"]
        made = encode_sample(processor, c)["input_ids"]
        assert torch.equal(own[:, : made.shape[1]], made)
        assert processor.tokenizer.decode(own[0, made.shape[1] :]).strip() == ""


def test_a_thought_that_the_template_writes_is_asked_and_not_learned(data, base):
    processor = load_base(base("qwen3"))[1]
    processor.chat_template = processor.chat_template.replace(
        "{{ c['text'] }}", "{{ '<think>\n\n</think>\n\n' if m['role'] == 'assistant' }}{{ c['text'] }}"
    ).replace("assistant\n", "assistant\n<think>\n")
    c = conversations(data)[0]
    made = encode_sample(processor, c)
    kept = made["labels"][0] != IGNORED
    assert processor.tokenizer.decode(made["input_ids"][0][kept]) == f"\n\n{c.answer}<|im_end|>"
    assert processor.tokenizer.decode(made["input_ids"][0][~kept]).endswith("assistant\n<think>\n\n</think>")


@vlms.cases(*(set(vlms.ENDS) - {"smolvlm"}))
def test_a_library_that_a_processor_lacks_is_named(base, monkeypatch, name):
    place = base(name)
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(DatasetError) as e:
        load_base(place)
    assert e.value.reason == "missing_base" and "num2words" in e.value.message


# --- images


@EVERY
def test_a_model_has_as_many_image_tokens_as_it_wants(data, base, name):
    "It says so itself when one is missing."
    model, processor = load_base(base(name))
    wanted = model.config.image_token_id
    for c in [*conversations(data)[:3], *conversations(data, "two")]:
        made = encode_sample(processor, c)
        assert torch.isfinite(model(**made).loss)
        at = int((made["input_ids"][0] == wanted).nonzero()[0])
        made["input_ids"][0, at] = processor.tokenizer.convert_tokens_to_ids("W")
        with pytest.raises((ValueError, RuntimeError), match="(?i)image|shape|mask|numel"):
            model(**made)


@EVERY
def test_images_of_other_sizes_and_numbers_change_no_loss(data, base, name):
    model, processor = load_base(base(name))
    some = [*conversations(data), *conversations(data, "two")]
    together, alone = (answer_losses(model, processor, some, batch_size=n) for n in (len(some), 1))
    assert np.allclose(together[0], alone[0], rtol=1e-4) and list(together[1]) == list(alone[1])
    asked = some[::-1]
    assert write_answers(model, processor, asked, 5, 3) == write_answers(model, processor, asked, 1, 3)


@EVERY
def test_each_of_two_images_has_its_place(data, base, name):
    model, processor = load_base(base(name))
    (c,) = conversations(data, "two")
    some = (c, c._replace(images=c.images[::-1]), conversations(data)[0])
    own, turned, short = (encode_sample(processor, x) for x in some)
    count = lambda made: int((made["input_ids"] == model.config.image_token_id).sum())
    assert count(own) == count(turned) > 0 < count(short)
    with torch.no_grad():
        assert not torch.equal(model(**own).logits[:, -1], model(**turned).logits[:, -1])


@pytest.mark.parametrize(
    "images, question",
    [
        ([], "Which part?"),
        (["a.png"], "<image><image>"),
        (["a.png", "a.png"], "<image>"),
        (["../a.png", "a.png"], "<image><image>"),
    ],
)
def test_images_and_their_marks_go_together(tmp_path, images, question):
    (tmp_path / "bad.json").write_text(json.dumps([row("a", images, question, "+ z")]))
    (tmp_path / "a.png").touch()
    with pytest.raises(DatasetError) as e:
        load_conversations(tmp_path / "bad.json", tmp_path)
    assert e.value.reason == "bad_sample"


@vlms.cases("llava", "paligemma", "onevision", "idefics3", "smolvlm")  # whose mark is ours, which is counted before
def test_a_question_with_a_mark_of_the_model_is_named(data, base, name):
    processor = load_base(base(name))[1]
    c = conversations(data)[0]
    with pytest.raises(DatasetError) as e:
        encode_sample(processor, c._replace(question=f"{c.question} {processor.image_token}"))
    assert e.value.reason == "bad_sample" and e.value.where == c.id


# --- what is trained


@EVERY
def test_adapters_are_on_the_language_model_and_the_projector(base, name):
    "And on the tower when it is asked for; never on the layer that scores tokens."
    plain = load_base(base(name))[0]
    linear = {n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear)}
    towers = ("vision_tower.", "vision_model.", "visual.blocks.")
    tower = {n for n in linear if any(f".{t}" in f".{n}" for t in towers)}
    head = {n for n in linear if n.endswith("lm_head")}
    assert tower and head and len(linear) > len(tower | head) + 13  # two layers of seven
    for tune_vision, wanted in ((False, linear - tower - head), (True, linear - head)):
        model = tuning.prepare(load_base(base(name))[0], use_lora=True, tune_vision=tune_vision)
        found = {n.removeprefix("base_model.model.") for n, m in model.named_modules() if hasattr(m, "lora_A")}
        assert found == wanted
        trained = [n for n, p in model.named_parameters() if p.requires_grad]
        assert trained and all("lora_" in n for n in trained)


@SECOND
def test_checkpointed_gradients_are_the_same(data, base, name):
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = tuning.prepare(load_base(base(name))[0], use_lora=True, lora_rank=2).train()
        processor = load_base(base(name))[1]
        if checkpointed:
            tuning.checkpoint_gradients(model)
        batch = batch_for(model, processor, [encode_sample(processor, c) for c in conversations(data)])
        token_loss(model(**batch), batch["labels"]).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and any(g.abs().max() > 0 for g in found[0].values())
    assert all(torch.allclose(g, found[1][n], atol=1e-6) for n, g in found[0].items())


@SECOND
def test_a_step_of_several_batches_is_the_step_of_one(data, base, settings, tuned, tmp_path, name):
    "Its loss is that of all tokens, whose number differs from sample to sample."
    model, processor = load_base(base(name))
    nats = tokens = 0.0
    for c in conversations(data):
        made = encode_sample(processor, c)
        with torch.no_grad():
            scores = model(**made).logits[0].log_softmax(1)
        at = (made["labels"][0] != IGNORED).nonzero()[:, 0]
        nats -= float(scores[at - 1, made["labels"][0, at]].sum())
        tokens += len(at)
    assert losses(tuned(name))[0] == pytest.approx(nats / tokens, rel=1e-4)
    one = dict(batch_size=4, accumulate=1, gradient_checkpointing=False, val_data=None)
    finetune(output=tmp_path, **settings(name, **one))
    assert losses(tmp_path) == pytest.approx(losses(tuned(name)), rel=2e-4)


@SECOND
def test_the_loss_falls(data, tuned, name):
    first, second = losses(tuned(name))
    nats, counts = answer_losses(*load_base(tuned(name) / "model"), conversations(data))
    assert nats.sum() / counts.sum() < second < first


@SECOND
def test_a_saved_adapter_is_the_saved_model(data, base, tuned, name):
    plain = load_base(base(name))[0].eval()
    merged, processor = load_base(tuned(name) / "model")
    sample = encode_sample(processor, conversations(data)[0])
    with torch.no_grad():
        before, after = plain(**sample).logits, merged.eval()(**sample).logits
        again = peft.PeftModel.from_pretrained(plain, tuned(name) / "adapter").eval()(**sample).logits
    assert torch.allclose(again, after, atol=1e-4) and not torch.allclose(again, before, atol=1e-2)


# --- what comes after


def whitened(data, conversation):
    "The same question about white paper of the same size, from a file."
    (image,) = read_images(conversation)
    path = data / "white_{}x{}.png".format(*image.size)
    Image.new("RGB", image.size, "white").save(path)
    return conversation._replace(images=(path,))


@SECOND
def test_the_image_ablation_is_in_the_report(data, tuned, name):
    found = read_json(tuned(name) / "finetuning.json")["controls"]
    model, processor = load_base(tuned(name) / "model")
    some = conversations(data, "val")
    for key, shown in (("loss", some), ("blank", [whitened(data, c) for c in some])):
        nats, counts = answer_losses(model, processor, shown)
        level = found[key] if key == "loss" else found[key]["loss"]
        assert level == pytest.approx(nats.sum() / counts.sum(), rel=1e-4)
    assert found["shuffled"]["loss"] != found["loss"] != found["blank"]["loss"]


@SECOND
def test_answers_are_written_in_both_precisions(data, tuned, name):
    for dtype in ("float32", "bfloat16"):
        words = ["answer", tuned(name), data, "--max-tokens", "4", "--dtype", dtype, "--device", "cpu", "--restart"]
        assert main([str(w) for w in words]) == 0
        rows = [json.loads(line) for line in (tuned(name) / "answers_test.jsonl").read_text().splitlines()]
        assert [r["id"] for r in rows] == [c.id for c in conversations(data, "test")]
        assert all(isinstance(r["code"], str) for r in rows)


@pytest.mark.parametrize("name", ["gemma3", "idefics3"])
def test_an_answer_ends_where_it_was_taught_to(data, base, settings, tmp_path, monkeypatch, name):
    "Although the model itself knows only of the end of a text."
    one = [row("one_front", "00000000_front.png", "<image>\nWhich part?", "+ z")]
    (data / "one.json").write_text(json.dumps(one))
    learns = dict(use_lora=False, accumulate=1, epochs=40, gradient_checkpointing=False)
    finetune(output=tmp_path, **settings(name, train_data=data / "one.json", val_data=None, **learns))
    model, processor = load_base(tmp_path / "model")
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    (c,), made, generate = conversations(data, "one"), [], model.generate
    monkeypatch.setattr(model, "generate", lambda **asked: made.append(generate(**asked)) or made[0])
    assert write_answers(model, processor, [c], max_tokens=20) == ["+ z"]
    assert torch.equal(made[0], encode_sample(processor, c)["input_ids"])


def test_processes_that_fetch_change_nothing(settings, tuned, tmp_path):
    finetune(output=tmp_path, **settings("onevision", loader_workers=1))
    assert losses(tmp_path) == losses(tuned("onevision"))


def test_too_few_samples_for_an_ablation_lose_no_run(data, settings, tmp_path):
    (data / "lone.json").write_text(json.dumps(read_json(data / "val.json")[:1]))
    report = finetune(output=tmp_path, **settings("internvl", val_data=data / "lone.json", epochs=1))
    assert "two parts or more" in report["controls"]["verdict"] and "Image ablation: none" in str(report)
    assert (tmp_path / "model").is_dir()
    report = finetune(output=tmp_path / "none", **settings("internvl", ablation_samples=0, epochs=1))
    assert "controls" not in report
