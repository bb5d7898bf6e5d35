"""Where the images of conversations are looked for: the dataset, or its `images`, as the public report's command
names it."""
import json, shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.errors import DatasetError
from cadvlm.files import read_json
from cadvlm.stages.extract import extract
from cadvlm.learn.conversations import load_conversations, make_tiny
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    top = tmp_path_factory.mktemp("images")
    synthesize(top / "corpus", count=6, workers=1)
    extract(top / "corpus", top / "dataset", workers=1)
    render(top / "dataset", size=64, workers=1)
    convert(top / "dataset", workers=1, language="compact")
    return top / "dataset"


def images(dataset, folder):
    return [path for c in load_conversations(dataset / "train.json", folder) for path in c.images]


@pytest.mark.parametrize("folder", ["images", "images/", "./images", "images/../images"])
def test_the_folder_of_the_images_itself(dataset, monkeypatch, folder):
    wanted = [dataset / row["image"] for row in read_json(dataset / "train.json")]
    assert images(dataset, dataset) == images(dataset, dataset / folder) == wanted
    monkeypatch.chdir(dataset)
    assert images(dataset, folder) == wanted


def test_a_folder_inside_wins(dataset, tmp_path):
    "`images/images/…` is where the path says that it is."
    inner = shutil.copytree(dataset / "images", tmp_path / "images/images")
    assert all(p.is_relative_to(inner) for p in images(dataset, tmp_path / "images"))


def test_no_path_leads_out(dataset, tmp_path):
    row = read_json(dataset / "train.json")[0]
    for image in ("images/../../train.json", "../train.json", "/etc/hostname", "images//etc/hostname"):
        (tmp_path / "bad.json").write_text(json.dumps([row | dict(image=image)]))
        with pytest.raises(DatasetError) as caught:
            load_conversations(tmp_path / "bad.json", dataset / "images")
        assert caught.value.reason == "bad_sample", image
    for folder in (dataset / "cad_json", tmp_path):
        with pytest.raises(DatasetError) as caught:
            load_conversations(dataset / "train.json", folder)
        assert caught.value.reason == "missing_file" and "--image-folder" in caught.value.message


REPORT = """--config config/finetune_config.yaml \\
  --train-data data/training/deepcad_100k/train.json \\
  --val-data data/training/deepcad_100k/val.json \\
  --image-folder data/training/deepcad_100k/images \\
  --epochs 5 \\
  --batch-size 4 \\
  --use-lora"""


def test_the_command_of_the_report(dataset, tmp_path, monkeypatch, capsys, root):
    "As it was published, but for the base, which cannot be fetched here; `nbs/950_published.ipynb` shows it."
    assert any(REPORT in "".join(cell["source"]) for cell in read_json(root / "nbs/950_published.ipynb")["cells"])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dataset, "data/training/deepcad_100k")
    make_tiny("base", load_conversations(dataset / "train.json", dataset), image_size=32)
    words = REPORT.replace("\\\n", " ").split()
    assert main(["finetune", *words, "--base", "base", "--device", "cpu"]) == 0
    said, report = capsys.readouterr().out, read_json("finetuning/finetuning.json")
    assert (report["epochs"], report["batch_size"], report["use_lora"], report["lora_rank"]) == (5, 4, True, 128)
    assert report["train_samples"] == len(read_json(dataset / "train.json"))
    for file in ("train.json", "val.json"):
        first = read_json(dataset / file)[0]["image"]
        assert f"note: {file} names its images {first} and so on; they were found in the image folder itself" in said


def test_a_cache_holds_other_files_too(dataset, tmp_path):
    "Images that the small model has read are kept in a file; the next file sweeps the one before, and nothing else."
    from cadvlm.corpus.dataset import Dataset
    from cadvlm.learn.samples import load_images, load_samples

    mine = tmp_path / "images_of_mine.npy"
    mine.write_bytes(b"mine")
    samples = load_samples(Dataset(dataset))
    for count in (2, 3):
        assert len(load_images(Dataset(dataset), samples[:count], 32, tmp_path)) == count
    assert mine.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 2
