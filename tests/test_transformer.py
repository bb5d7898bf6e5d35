"""The transformer: tokens and grammar, sampling, training that comes back, choosing, and the script in its dry form."""
import csv, hashlib, json, lzma, os, subprocess, sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from builders import some
from cadvlm.text import compact
from cadvlm.learn.choose import (CERTIFIED, Target, choose, lines_seen, numbers_of, search, sheet_of, solid_of,
                                 words_of)
from cadvlm.learn.choose_file import choose_file
from cadvlm.errors import DatasetError
from cadvlm.learn.fit import Recipe, Trainer, ablations, batches, fit, load, parts_of, resume, save
from cadvlm.text.language import encode
from cadvlm.cad.normal import normal_form
from cadvlm.errors import CodeError
from cadvlm.learn.ink import TURNS, ink_of, pack, sample, turned_text
from cadvlm.learn.sheets import Sheets, Worse, spread, table, worse
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import Frame
from cadvlm.cad.solid import Solid
from cadvlm.synth.histories import part
from cadvlm.learn.vocabulary import PIECES, WHOLE, automaton, random_text, to_ids, to_text
from cadvlm.learn.transformer import Size, Transformer, nats_of, write

TINY = Size(image=64, width=32, heads=2, encoder=1, decoder=2, tokens=48)
BRACKET = "+ z -30 -10 R -100 -60 100 60 O -60 0 25\n+ z -10 30 R 20 -60 100 60\n- y -60 0 O 60 10 12"


@pytest.fixture(scope="module")
def texts():
    return [encode(part(3, i), "compact") for i in range(24)]


@pytest.fixture(scope="module")
def sheets(texts):
    found = Sheets(64)
    found.add([pack(*zip(*(sample(t, 64) for t in texts if len(t) < 250)))])
    return found


def test_tokens_of_every_sentence_come_back(texts):
    rng = np.random.default_rng(1)
    odd = ["+ n 12.345 45 -0.5 250 O 0 0 7.25", "+ z 007 1.50 R -201 0 201 5\n",
           "+ x 0 1 M 0 0 5 0 A 6 1 5 2\n& y -3 -2 O 0 0 0"]
    for text in [*texts, *odd, *(random_text(rng) for _ in range(200))]:
        ids = to_ids(text)
        assert to_text(ids[1:]) == text and automaton().allowed[automaton().walk(ids)[:-1], ids[1:]].all()


def test_a_whole_number_is_one_token():
    for v in (-WHOLE, -1, 0, 7, WHOLE):
        assert len(to_ids(f"+ z {v} 100 R 0 0 5 5")) == len(to_ids("+ z 1 100 R 0 0 5 5"))
    with pytest.raises(CodeError, match="character 2"): to_ids("+ q 0 1 O 0 0 5")


def test_the_automaton_is_the_grammar():
    "One token of a sentence changed: the automaton and the grammar agree on whether it still is one."
    import re
    from cadvlm.learn.constrain import expression
    sentence, a, rng = re.compile(expression(compact.GRAMMAR)), automaton(), np.random.default_rng(2)
    seen = set()
    for _ in range(400):
        ids = to_ids(random_text(rng, 40))
        ids[rng.integers(1, len(ids) - 1)] = rng.integers(3, len(PIECES))
        states, mine = [a.start], True
        for token in ids[1:]:
            mine &= bool(a.allowed[states[-1], token])
            states.append(a.after[states[-1], token])
        pieces = [PIECES[i] for i in ids[1:-1]]
        # spelled on behind a whole number
        broken = any(x.strip(" -").isdigit() and y in "-.0123456789" for x, y in zip(pieces, pieces[1:]))
        if not broken: assert mine == bool(sentence.fullmatch(to_text(ids[1:]))), to_text(ids[1:])
        seen.add(mine)
    assert seen == {True, False}


def test_the_automaton_is_the_same_in_every_process():
    code = ("from cadvlm.learn.vocabulary import automaton; import hashlib; "
            "print(hashlib.md5(automaton().after.tobytes()).hexdigest())")
    said = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True,
                          text=True, check=True).stdout
    assert said.strip() == hashlib.md5(automaton().after.tobytes()).hexdigest()


def test_untrained_models_write_what_can_be_read():
    torch.manual_seed(0)
    model = Transformer(TINY).eval()
    with torch.no_grad(): model.embed.weight.normal_(std=2.)                       # sure of itself, and wrong
    for row in write(model, torch.rand(3, 64, 64), 5, temperature=(1., .5, 3.)):
        for text in row: compact.read(text); assert len(to_ids(text)) <= TINY.tokens + 1


def test_samples_share_the_memory_and_greedy_is_the_first():
    torch.manual_seed(0)
    model, ink = Transformer(TINY).eval(), torch.rand(2, 64, 64)
    both, one = write(model, ink, 3, seed=5), write(model, ink[1:], 1)
    assert both[1][0] == one[0][0] and both == write(model, ink, 3,
                                                     seed=5) and len({t for row in both for t in row}) > 2


def test_padding_and_other_rows_change_nothing(sheets):
    model = Transformer(TINY).eval()
    with torch.no_grad():
        x = spread(sheets[[0, 1]])
        together = nats_of(model, *table(sheets, [0, 1], 49), model.look(x))
        alone = nats_of(model, *table(sheets, [0]), model.look(x[:1]))
    torch.testing.assert_close(together[0, :alone.shape[1]], alone[0], rtol=1e-4, atol=1e-4)
    assert together[0, len(sheets.texts[0]) - 1:].eq(0).all()


def test_a_stopped_run_comes_back_to_the_same_losses(sheets, tmp_path):
    recipe = Recipe(steps=12, batch=6, learning_rate=3e-3, average=.9)
    whole = Trainer(TINY, recipe)
    fit(whole, sheets)
    fit(Trainer(TINY, recipe), sheets, until=5, checkpoint=tmp_path / "run.pt")
    again = resume(tmp_path / "run.pt", TINY, recipe, "cpu")
    fit(again, sheets)
    assert again.losses == pytest.approx(whole.losses, rel=1e-5) and len(whole.losses) == 12
    save(tmp_path / "run.pt", again)
    assert write(load(tmp_path / "run.pt"), spread(sheets[[0]])) == write(again.average, spread(sheets[[0]]))
    with pytest.raises(DatasetError, match="learning_rate"):
        resume(tmp_path / "run.pt", TINY, Recipe(steps=12, batch=6, average=.9), "cpu")
    (tmp_path / "run.pt").write_bytes(b"no checkpoint")
    with pytest.raises(DatasetError, match="checkpoint"): load(tmp_path / "run.pt")


def test_a_run_learns_and_looks(sheets):
    "When samples are memorised, the loss falls, and other sheets cost."
    trainer = Trainer(TINY, Recipe(steps=150, batch=12, learning_rate=4e-3, average=.9, augment=False))
    fit(trainer, sheets)
    found = ablations(trainer.average, sheets)
    assert found["loss"] < 1.8 and found["shuffled"] > found["loss"] + .2


def test_all_batches_have_the_same_shapes():
    texts = [np.zeros(n) for n in np.random.default_rng(0).integers(8, 400, 300)]
    shapes = {tuple((len(rows), length) for rows, length in parts_of(b, texts, 256, 64)) for b,
              _ in zip(batches(300, 64), range(20))}
    assert shapes == {((48, 64), (16, 257))}


def test_nothing_is_compiled_anew_at_each_step(sheets, monkeypatch):
    from torch._dynamo.testing import CompileCounter
    counter = CompileCounter()
    compiled = lambda block: setattr(block, "_compiled_call_impl", torch.compile(block._call_impl, backend=counter))
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    trainer, counts = Trainer(TINY, Recipe(steps=6, batch=12, compile=True)), []
    for rows, _ in zip(batches(len(sheets), 12), range(6)):
        trainer.step(sheets, rows, .5, 20)
        counts.append(counter.frame_count)
    assert 0 < counts[0] == counts[-1]


def test_packed_sheets_are_the_sheets(texts):
    inks = [ink_of(sheet_of(t), 64) for t in texts[:5]]
    found = Sheets(64)
    for k in (slice(0, 2), slice(2, 5)): found.add([pack(inks[k], [to_ids(t) for t in texts[k]])])
    assert (found[[4, 0, 2]].numpy() == np.stack([inks[4], inks[0], inks[2]])).all()
    assert torch.equal(worse(found[[1]], Worse(0, 0, 0, 0, 0, 0)).mul(15).round(), spread(found[[1]]).mul(15).round())
    bare = worse(found[[1]], Worse(0, 0, 0, 0, 1, 0))
    assert torch.allclose(bare, (found[[1]] >> 4).float() / 15)


def test_turned_parts_have_turned_code(texts):
    here, rng = Frame((0., 0., 0.), 1.), np.random.default_rng(0)
    for text in texts[:8]:
        axes, signs = turn = TURNS[rng.integers(1, 48)]
        matrix = np.zeros((3, 4))
        matrix[range(3), axes] = signs
        new = turned_text(text, turn)
        expected = Solid(solid_of(compact.read(text)).manifold.transform(matrix), here)
        assert iou(solid_of(compact.read(new)), expected) > .99
        assert compact.write(normal_form(compact.read(new), 1., here), 1.) == new


def test_choosing_finds_the_true_program(texts):
    for text in texts[:6]:
        words = words_of(text)
        wrong = []
        for n in numbers_of(words)[::2][:6]:
            other = list(words)
            other[n.at] = str(int(other[n.at]) + 3)
            wrong.append(" ".join(other).replace(" \n", "\n"))
        choice = choose(Target(sheet_of(text)), [*wrong, "no code", text, "+ z 0 0 O 0 0 5"])
        assert choice.agreement == pytest.approx(1) and choice.certified and len(choice.scores) == len(wrong) + 3


def test_what_cannot_be_drawn_agrees_with_nothing():
    choice = choose(Target(sheet_of(BRACKET)), ["", "+ z 0 5 R 0 0 99999 5"])
    assert choice.agreement == -1 and not choice.certified


def test_agreement_knows_visible_from_hidden():
    target = Target(sheet_of("+ z -50 50 R -100 -60 100 60\n- z 0 50 O 0 0 30"))
    assert target.score("+ z -50 50 R -100 -60 100 60\n- z -50 0 O 0 0 30") < .99


@pytest.mark.parametrize("wrong", some([("60 10 12", "61 9 12"), ("-100 -60 100 60", "-97 -60 100 60"),
                                        ("\n-", "\n+"), ("O -60 0 25", "O -60 0 24 O 50 0 8")], 2))
def test_a_search_repairs_what_is_nearly_right(wrong):
    image = sheet_of(BRACKET).rasterize(512)[:, :, 0]
    target, start = Target(image), BRACKET.replace(*wrong)
    found = search(target, start, budget=150, lines=lines_seen(image))
    assert start != BRACKET and found.text == BRACKET and found.drawings <= 150


def test_a_search_keeps_its_budget_never_gets_worse_and_comes_out_alike():
    target = Target(sheet_of(BRACKET))
    found = search(target, "+ z -20 20 R -80 -60 80 60", budget=15)
    assert found.drawings <= 15 and found.agreement >= target.score("+ z -20 20 R -80 -60 80 60")
    assert search(target, "+ z -20 20 R -80 -60 80 60", budget=15) == found


def test_a_file_of_candidates_becomes_one_answer_each(tmp_path):
    from cadvlm.stages.extract import extract
    from cadvlm.stages.synthesize import synthesize
    synthesize(tmp_path / "parts", count=6, workers=1)
    extract(tmp_path / "parts", tmp_path / "tiny", train_size=4, val_size=1, test_size=1, workers=1)
    from cadvlm.corpus.dataset import Dataset
    from cadvlm.cad.repair import load_part
    dataset = Dataset(tmp_path / "tiny")
    truths = {i: load_part(dataset.json_path(i).read_bytes(), i) for i in dataset.ids[:3]}
    with open(tmp_path / "said.jsonl", "w") as f:
        for i, s in truths.items():
            for code, language in (("not code", "cadquery"), (encode(s, "cadquery"), "cadquery")):
                f.write(json.dumps(dict(id=i, code=code, language=language)) + "\n")
    said = choose_file(tmp_path / "said.jsonl", tmp_path / "tiny", workers=1)
    rows = [json.loads(l) for l in (tmp_path / "said_chosen.jsonl").read_text().splitlines()]
    assert said["samples"] == 3 == len(rows) and all(r["number"] == 1 and r["agreement"] > .85 for r in rows)
    assert said["certified"] == sum(r["agreement"] >= CERTIFIED for r in rows)
    # where no candidate is a program, the search begins with a block
    (tmp_path / "none.jsonl").write_text("".join(
        json.dumps(dict(id=i, code="not code", language="cadquery")) + "\n" for i in truths))
    said = choose_file(tmp_path / "none.jsonl", tmp_path / "tiny", workers=1, search=3)
    rows = [json.loads(l) for l in (tmp_path / "none_chosen.jsonl").read_text().splitlines()]
    assert said["not_drawn"] == 0 and all(r["agreement"] > .2 and ".extrude(" in r["code"] for r in rows)
    (tmp_path / "bad.jsonl").write_text('{"id": 5}\n')
    with pytest.raises(DatasetError, match="line 1"): choose_file(tmp_path / "bad.jsonl", tmp_path / "tiny", workers=1)


def test_the_script_for_a_graphics_card_runs_dry(tmp_path, root):
    env = os.environ | dict(OUT=str(tmp_path / "out"), PYTHON=sys.executable)
    done = subprocess.run(["bash", str(root / "tools" / "gpu.sh"), "all", "--dry-run", "--workers", "1", "--device",
                           "cpu"], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    out = tmp_path / "out"
    tables = {p.stem: list(csv.DictReader(p.read_text().splitlines())) for p in out.glob("*.csv")}
    ladder, scaling, expert = (tables.get(name, []) for name in ("ladder", "scaling", "expert"))
    assert {r["rung"] for r in ladder} == {"greedy", "chosen of 4", "best of 4 by the truth", "chosen and searched",
                                           "another part's sheet", "blank sheet", "5-gram, no drawing"}
    by = {r["rung"]: r for r in ladder}
    searched, chosen, greedy = (float(by[n]["agreement"]) for n in ("chosen and searched", "chosen of 4", "greedy"))
    assert searched >= chosen >= greedy
    assert [r["parts"] for r in scaling] == ["20", "40", "50"] and {r["test"] for r in scaling} == {"synthetic"}
    assert all(0 < float(r[name]) < 8 for r in scaling for name in ("loss", "shuffled", "blank", "ngram"))
    # a model of one second answers what it likes: as many answers are learnt from as their drawings agree with
    searched = [json.loads(line) for line in lzma.open(out / "searched.jsonl.xz", "rt")]
    certified = sum(r["agreement"] >= 0 for r in [r for r in searched if r["kind"] == "synthetic"][::2])
    arms = ("before", "trained on", "with certified answers") if certified else ()
    assert [(r["arm"], r["test"]) for r in expert] == [(arm, test) for arm in arms for test in ("in training", "new")]
    assert all(int(r["certified_parts"]) == certified and int(r["parts"]) == 3 for r in expert)
    assert sum(p.stat().st_size for p in out.glob("large.pt.*")) > 50_000
