"""Comparison: test sets that no corpus knows, rows that are made once, laws whose exponents are known."""
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")
from cadvlm.app.cli import main
from cadvlm.measure.compare import choose_test, compare, conclude, fit_power, known_answers, load_tests
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset
from cadvlm.errors import DatasetError
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize
from cadvlm.learn.samples import load_samples

QUICK = dict(steps=6, seeds=1, val_samples=0, parts=4, image_size=32, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Two corpora, a test of another seed, and a test that shares its parts with a corpus."
    folder = tmp_path_factory.mktemp("compare")
    for name, count, seed in (("small", 32, 0), ("large", 44, 0), ("fresh", 32, 1)):
        synthesize(folder / f"{name}_parts", count=count, seed=seed, workers=1)
        extract(folder / f"{name}_parts", folder / name, train_size=count // 2, val_size=6, test_size=6, order="random",
                workers=1)
        render(folder / name, size=64, workers=1)
        convert(folder / name, language="compact", verify=False, workers=1)
    return folder


def test_no_part_of_a_corpus_is_tested(folder):
    """The corpora are the same parts in part: of the smaller one only those are left that the larger has neither in
    training nor in validation."""
    known = known_answers([folder / "large"])
    texts = {s.text for split in ("train", "validation") for s in load_samples(Dataset(folder / "large"), split)}
    chosen = choose_test(Dataset(folder / "fresh"), known, 1000)
    by_id = {s.id: s for split in ("train", "validation", "test")
             for s in load_samples(Dataset(folder / "fresh"), split)}
    assert chosen["ids"] and not {by_id[i].text for i in chosen["ids"]} & texts
    with pytest.raises(DatasetError) as e:
        choose_test(Dataset(folder / "large"), known_answers([folder / "large"])
                    | {h for s in load_samples(Dataset(folder / "large"), "test") for h in [_hash(s)]}, 10)
    assert e.value.reason == "no_samples"


def _hash(sample):
    from hashlib import blake2b

    return blake2b(sample.text.encode(), digest_size=8).digest()


def test_rows_are_made_once_and_the_run_goes_on(folder, capsys):
    corpora, tests = [folder / "small", folder / "large"], [folder / "fresh"]
    made = compare(corpora, tests=tests, output=folder / "out", **QUICK)
    path = folder / "out" / "compare.csv"
    before = path.read_bytes()
    assert len(made.table) == 2 and made.table.ngram.gt(0).all() and made.table.invalid_ratio.between(0, 1).all()
    times = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.pt")}
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in QUICK.items()]
    assert main(["compare", *map(str, corpora), "--tests", str(tests[0]), "--output", str(folder / "out"), *flags]) == 0
    assert path.read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert "fresh" in capsys.readouterr().out
    compare(corpora, tests=tests, output=folder / "out", **QUICK | dict(seeds=2))
    assert path.read_bytes().startswith(before[:-1]) and len(pd.read_csv(path)) == 4
    with pytest.raises(DatasetError) as e:
        compare(corpora, tests=tests, output=folder / "out", **QUICK | dict(parts=3))
    assert e.value.reason == "bad_setting"
    with pytest.raises(DatasetError):
        compare([folder / "small", folder / "small"], tests=tests, output=folder / "two", **QUICK)
    assert [t.name for t in load_tests(tests, corpora, folder / "out", 4)] == ["fresh"]


def test_exponents():
    law = fit_power([1e3, 1e3, 1e4, 1e5], [3.0, 3.0, 3 * 10**-0.2, 3 * 10**-0.4])
    assert law.exponent == pytest.approx(0.2) and law.low == pytest.approx(0.2) and law.high == pytest.approx(0.2)
    with pytest.raises(DatasetError):
        fit_power([1e3, 1e3, 1e3], [1.0, 2.0, 3.0])


def test_conclusions_are_no_stronger_than_the_rows():
    rows = pd.DataFrame(dict(test="t", parts=np.repeat([1e3, 1e4, 1e5], 2), loss=[3, 3.1, 2.5, 2.6, 2.0, 2.2],
                             shuffled=[3, 3.1, 2.6, 2.7, 2.5, 2.6], ngram=2.5))
    assert conclude(rows)["t"][0].endswith(": significant.")
    assert "is below" in conclude(rows)["t"][1]
    assert "not below" in conclude(rows.assign(ngram=2.1))["t"][1]
    assert conclude(rows.assign(shuffled=rows.loss + 0.1))["t"][0].endswith(": not significant.")
    assert "may be chance" in conclude(rows.assign(loss=[2, 3, 2, 3, 2, 3], shuffled=5))["t"][2]
    assert "significant" not in conclude(rows.iloc[[0, 2, 4]])["t"][0]                  # one seed shows no spread
