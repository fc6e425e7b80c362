"""Tiny copies of what the publishers pack, prepared, and opened by what the commands open data sets with."""

import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dinotools.configs.data_sets import DataPrepareConfig
from dinotools.data.copydays import open_copydays
from dinotools.data.images import ImageFiles
from dinotools.data.list_files import read_list
from dinotools.data.manifests import manifest, preparing
from dinotools.data.manifests.preparation import yfcc
from dinotools.data.manifests.preparation.steps import move_all
from dinotools.data.oxford_paris import open_retrieval
from dinotools.data.sources import open_labelled_splits
from dinotools.data.voc import open_voc
from dinotools.evaluation.davis.layout import ANNOTATIONS, FRAMES, find_files, read_split
from dinotools.runtime.errors import DinotoolsError


def picture(kind="JPEG", colour=0, size=(8, 6), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size, (colour,) * 3 if mode == "RGB" else colour).save(content, kind)
    return content.getvalue()


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture() if content is None else content)


def pack(path, files):
    """Writes an archive of {name: content}."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def packed(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def matlab(**variables):
    content = io.BytesIO()
    savemat(content, variables)
    return content.getvalue()


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    """Prepares tmp_path, whose files are smaller than the publishers', twice: nothing is left to do then."""

    def read(name):
        known = manifest.read(name)
        return replace(known, files=tuple(replace(file, bytes=None) for file in known.files))

    monkeypatch.setattr(preparing, "read", read)

    def run(name, seed=0):
        config = DataPrepareConfig(name=name, folder=tmp_path, seed=seed)
        first = preparing.run(config)
        tree = sorted(tmp_path.rglob("*"))
        again = preparing.run(config)
        assert first.metrics["now"] > 0
        assert again.metrics["now"] == 0
        assert sorted(tmp_path.rglob("*")) == tree
        return first

    return run


def counts(folder):
    """Images by class of both splits, through what the commands open them with."""
    return [
        {source.classes[label]: source.labels.count(label) for label in sorted(set(source.labels))}
        for source in open_labelled_splits(str(folder))
    ]


def write_imagenet(folder):
    classes = {"n01": 3, "n02": 2}
    pack(
        folder / "ILSVRC2012_img_train.tar",
        {f"{name}.tar": packed({f"{name}_{i}.JPEG": picture() for i in range(n)}) for name, n in classes.items()},
    )
    pack(
        folder / "ILSVRC2012_img_val.tar",
        {f"ILSVRC2012_val_{i:08d}.JPEG": picture(colour=i) for i in range(1, 5)},
    )
    synsets = np.array(
        [(2, "n02", 0), (1, "n01", 0), (3, "n00", 2)],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")],
    )
    pack(
        folder / "ILSVRC2012_devkit_t12.tar.gz",
        {
            "ILSVRC2012_devkit_t12/data/meta.mat": matlab(synsets=synsets),
            "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n1\n1\n",
        },
    )


def test_imagenet(tmp_path, prepare):
    write_imagenet(tmp_path)
    prepare("imagenet")
    assert counts(tmp_path) == [{"n01": 3, "n02": 2}, {"n01": 3, "n02": 1}]
    assert (tmp_path / "val/n02/ILSVRC2012_val_00000001.JPEG").is_file()


def test_imagenet_goes_on_where_it_stopped(tmp_path, prepare):
    write_imagenet(tmp_path)
    put(tmp_path / "train" / ".n01.tmp" / "n01_0.JPEG", b"half")  # a kill in the middle of a class
    put(tmp_path / "train" / "n02" / "n02_0.JPEG")
    result = prepare("imagenet")
    row = next(row for row in result.rows if row["step"].startswith("classes"))
    assert (row["now"], row["before"]) == (1, 1)
    assert Image.open(tmp_path / "train/n01/n01_0.JPEG").size == (8, 6)
    assert not (tmp_path / "train" / ".n01.tmp").exists()


def test_imagenet_from_tars_that_were_unpacked_once(tmp_path, prepare):
    write_imagenet(tmp_path)
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar") as archive:
        archive.extractall(tmp_path / "train", filter="data")
    (tmp_path / "ILSVRC2012_img_train.tar").unlink()
    prepare("imagenet")
    assert counts(tmp_path)[0] == {"n01": 3, "n02": 2}


def test_imagenet_without_the_kit_names_it(tmp_path, prepare):
    write_imagenet(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    with pytest.raises(
        DinotoolsError, match=r"comes with ILSVRC2012_devkit_t12.tar.gz\. Register at https://image-net.org"
    ):
        prepare("imagenet")


def test_a_hostile_class_of_imagenet_stays_outside(tmp_path, prepare):
    write_imagenet(tmp_path)
    pack(tmp_path / "ILSVRC2012_img_train.tar", {"n01.tar": packed({"../outside.JPEG": picture()})})
    with pytest.raises(DinotoolsError, match="which is no image"):
        prepare("imagenet")
    assert not list(tmp_path.rglob("outside*"))


def batch(rows, **more):
    """A pickle as CIFAR's are: of Python 2, with a NumPy array of uint8."""
    return pickle.dumps({"data": rows, **more}, protocol=2)


def test_cifar10(tmp_path, prepare):
    names = ["airplane", "automobile", *"cdefghij"]
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, size=(6, 3, 32, 32)).astype(np.uint8)
    rows = pixels.reshape(6, 3072)
    files = {f"data_batch_{i}": batch(rows[i - 1 : i], labels=[i % 2]) for i in range(1, 6)}
    files |= {
        "test_batch": batch(rows[5:], labels=[1]),
        "batches.meta": pickle.dumps({"label_names": names}, protocol=2),
    }
    pack(tmp_path / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{name}": data for name, data in files.items()})
    prepare("cifar10")
    assert counts(tmp_path) == [
        {"airplane": 2, "automobile": 3},
        {"automobile": 1},
    ]
    first = np.asarray(Image.open(tmp_path / "train/automobile/00000.png"))
    np.testing.assert_array_equal(first, pixels[0].transpose(1, 2, 0))


def test_cifar100_and_a_batch_that_is_none(tmp_path, prepare):
    folder = tmp_path / "cifar-100-python"
    put(folder / "meta", pickle.dumps({"fine_label_names": ["apple", "bear"]}, protocol=2))
    put(folder / "test", batch(np.zeros((1, 3072), np.uint8), fine_labels=[0]))
    put(folder / "train", batch(np.zeros((2, 3072), np.uint8), fine_labels=[0]))
    with pytest.raises(DinotoolsError, match="is no batch of CIFAR"):
        prepare("cifar100")
    assert not (tmp_path / "train").exists()
    put(folder / "train", batch(np.zeros((2, 3072), np.uint8), fine_labels=[0, 1]))
    prepare("cifar100")
    assert counts(tmp_path) == [{"apple": 1, "bear": 1}, {"apple": 1}]


def test_flowers_train_on_train_and_val(tmp_path, prepare):
    pack(tmp_path / "102flowers.tgz", {f"jpg/image_{i:05d}.jpg": picture(colour=i) for i in range(1, 6)})
    put(tmp_path / "imagelabels.mat", matlab(labels=np.array([[1, 2, 1, 2, 102]])))
    put(tmp_path / "setid.mat", matlab(trnid=np.array([[1, 5]]), valid=np.array([[2]]), tstid=np.array([[3, 4]])))
    prepare("flowers102")
    assert counts(tmp_path) == [{"001": 1, "002": 1, "102": 1}, {"001": 1, "002": 1}]
    assert (tmp_path / "train/102/image_00005.jpg").is_file()


def test_flowers_name_the_photos_that_are_missing(tmp_path, prepare):
    put(tmp_path / "jpg" / "image_00001.jpg")
    put(tmp_path / "imagelabels.mat", matlab(labels=np.array([[1, 2, 1]])))
    put(tmp_path / "setid.mat", matlab(trnid=np.array([[1]]), valid=np.array([[2]]), tstid=np.array([[3]])))
    with pytest.raises(DinotoolsError, match=r"1 of 2 files are not there: image_00002.jpg.*https://www.robots"):
        prepare("flowers102")
    assert (tmp_path / "jpg" / "image_00001.jpg").is_file()  # nothing is moved then


@pytest.mark.parametrize("nested", [False, True])
def test_cars(tmp_path, prepare, nested):
    kind = [("fname", "O"), ("class", "O")]
    names = np.array(["AM General Hummer SUV 2000", "Ram C/V Cargo Van"], dtype=object)
    for photos, numbers, file in (
        ("cars_train", [2, 1, 2], "devkit/cars_train_annos.mat"),
        ("cars_test", [1], "cars_test_annos_withlabels.mat"),
    ):
        for i in range(1, len(numbers) + 1):
            put(tmp_path / photos / (photos if nested else "") / f"{i:05d}.jpg")
        rows = np.array([(f"{i:05d}.jpg", number) for i, number in enumerate(numbers, start=1)], dtype=kind)
        put(tmp_path / file, matlab(annotations=rows))
    put(tmp_path / "devkit" / "cars_meta.mat", matlab(class_names=names))
    prepare("cars")
    assert counts(tmp_path) == [
        {"001_AM_General_Hummer_SUV_2000": 1, "002_Ram_C-V_Cargo_Van": 2},
        {"001_AM_General_Hummer_SUV_2000": 1},
    ]


def test_inaturalist_moves_and_copies_nothing(tmp_path, prepare):
    files = {f"train_val2018/Aves/{c}/{i}.jpg": picture(colour=i) for i, c in enumerate((2761, 2761, 7, 7))}
    pack(tmp_path / "train_val2018.tar.gz", files)
    for split, ids in (("train", (0, 1, 2)), ("val", (3,))):
        document = {
            "images": [{"id": i, "file_name": list(files)[i]} for i in ids],
            "annotations": [{"image_id": i, "category_id": (2761, 2761, 7, 7)[i]} for i in ids],
        }
        pack(tmp_path / f"{split}2018.json.tar.gz", {f"{split}2018.json": json.dumps(document).encode()})
    prepare("inat18")
    assert counts(tmp_path) == [{"0007": 1, "2761": 2}, {"0007": 1}]
    assert not (tmp_path / "train_val2018").exists()


def gnd(names, queries):
    one = {"bbx": [0, 0, 4, 4], "easy": [0], "hard": [], "junk": []}
    return {"imlist": names, "qimlist": queries, "gnd": [one for _ in queries]}


def test_oxford_flat_and_paris_in_folders(tmp_path, prepare):
    pack(tmp_path / "paris_1-v1.tgz", {"paris/eiffel/paris_eiffel_000001.jpg": picture()})
    pack(tmp_path / "paris_2-v1.tgz", {"paris/louvre/paris_louvre_000002.jpg": picture()})
    truth = gnd(["paris_eiffel_000001"], ["paris_louvre_000002"])
    put(tmp_path / "gnd_rparis6k.pkl", pickle.dumps(truth, protocol=2))
    prepare("rparis6k")
    data = open_retrieval("rparis6k", tmp_path)
    assert (len(data.database), len(data.queries)) == (1, 1)
    assert sorted(path.name for path in (tmp_path / "jpg").iterdir()) == [
        "paris_eiffel_000001.jpg",
        "paris_louvre_000002.jpg",
    ]


def test_oxford_without_ground_truth_says_where_it_is(tmp_path, prepare):
    pack(tmp_path / "oxbuild_images-v1.tgz", {"all_souls_000000.jpg": picture()})
    with pytest.raises(DinotoolsError, match=r"fetch roxford5k --to.* from http.*/gnd_roxford5k.pkl"):
        prepare("roxford5k")


def test_r1m_is_distractors_once_unpacked(tmp_path, prepare):
    for number in (1, 2):
        pack(tmp_path / f"revisitop1m.{number}.tar.gz", {f"0d{number}/{number}.jpg": picture()})
    prepare("r1m")
    assert len(ImageFiles.in_folder(tmp_path)) == 2


def test_gldv2_lists_the_clean_part_that_is_there(tmp_path, prepare, capsys):
    pack(tmp_path / "images_000.tar", {f"{p[0]}/{p[1]}/{p[2]}/{p}.jpg": picture() for p in ("00a1", "00b2", "01c3")})
    put(tmp_path / "train_clean.csv", b"landmark_id,images\n7,00a1 01c3\n9,ffff\n")
    prepare("gldv2")
    listed = read_list(tmp_path / "clean.txt")
    assert [Path(path).name for path in listed.paths] == ["00a1.jpg", "01c3.jpg"]
    assert listed.classes == ["7"]
    assert "1 of 3 clean photos are not there" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("folders", [("crops", "jpegqual"), ("crops/copydays_crop", "jpegqual/jpeg")])
def test_copydays(tmp_path, prepare, folders):
    pack(tmp_path / "copydays_original.tar.gz", {"200000.jpg": picture(), "200100.jpg": picture()})
    pack(tmp_path / "copydays_strong.tar.gz", {"200001.jpg": picture()})
    put(tmp_path / folders[0] / "10" / "200000.jpg")
    put(tmp_path / folders[1] / "75" / "200000.jpg")
    prepare("copydays")
    data = open_copydays(tmp_path)
    assert [(block.name, len(block.images)) for block in data.blocks] == [
        ("original", 2),
        ("strong", 1),
        ("jpegqual/75", 1),
        ("crops/10", 1),
    ]


def test_copydays_unpacked_side_by_side(tmp_path, prepare):
    for name in ("200000", "200001", "200002", "200100", "200101"):
        put(tmp_path / f"{name}.jpg")
    prepare("copydays")
    assert [len(block.images) for block in open_copydays(tmp_path).blocks] == [2, 3]


def test_yfcc_draws_two_disjoint_subsets(tmp_path, monkeypatch):
    splits = (manifest.Split(name="distractors", images=3), manifest.Split(name="whitening", images=4))
    small = replace(manifest.read("yfcc"), splits=splits)
    monkeypatch.setattr(preparing, "read", lambda name: small)
    config = DataPrepareConfig(name="yfcc", folder=tmp_path, seed=5)
    for i in range(6):
        put(tmp_path / "photos" / str(i % 2) / f"{i}.jpg", picture(colour=i))
    with pytest.raises(DinotoolsError, match="holds 6 photos, and 7 are to be drawn"):
        preparing.run(config)
    for i in range(6, 20):
        put(tmp_path / "photos" / f"{i}.jpg", picture(colour=i))
    preparing.run(config)
    drawn = json.loads((tmp_path / yfcc.DRAWN).read_text())["drawn"]
    assert [len(drawn[name]) for name in ("distractors", "whitening")] == [3, 4]
    assert not set(drawn["distractors"]) & set(drawn["whitening"])
    colours = [Image.open(path).getpixel((0, 0))[0] for path in sorted((tmp_path / "distractors").iterdir())]
    assert colours == [int(Path(name).stem) for name in drawn["distractors"]]
    assert len(ImageFiles.in_folder(tmp_path / "whitening")) == 4
    assert preparing.run(config).metrics["now"] == 0
    with pytest.raises(DinotoolsError, match="drawn with seed 5"):
        preparing.run(replace(config, seed=6))


def test_yfcc_is_the_same_for_the_same_seed(tmp_path):
    known = replace(manifest.read("yfcc"), splits=(manifest.Split(name="distractors", images=4),))
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        for i in range(12):
            put(tmp_path / name / "photos" / f"{i}.jpg")
        yfcc.prepare(tmp_path / name, known, seed)
        drawn.append(json.loads((tmp_path / name / yfcc.DRAWN).read_text())["drawn"])
    assert drawn[0] == drawn[1] != drawn[2]


def davis_files():
    files = {"DAVIS/ImageSets/2017/val.txt": b"cat\ndog\n", "DAVIS/README.md": b"DAVIS"}
    for name in ("cat", "dog"):
        for i in range(2):
            files[f"DAVIS/JPEGImages/480p/{name}/{i:05d}.jpg"] = picture()
            files[f"DAVIS/Annotations/480p/{name}/{i:05d}.png"] = picture("PNG", mode="L")
    return files


def test_davis_is_lifted_out_of_its_folder(tmp_path, prepare):
    pack(tmp_path / "DAVIS-2017-trainval-480p.zip", davis_files())
    prepare("davis2017")
    names = read_split(tmp_path, "val")
    assert [len(find_files(tmp_path, kind, names)["dog"]) for kind in (FRAMES, ANNOTATIONS)] == [2, 2]
    assert not (tmp_path / "DAVIS").exists()


def test_davis_is_filled_up_where_part_of_it_is_lifted(tmp_path, prepare):
    pack(tmp_path / "DAVIS-2017-trainval-480p.zip", davis_files())
    put(tmp_path / "JPEGImages" / "480p" / "cow" / "00000.jpg")
    prepare("davis2017")
    assert {path.name for path in (tmp_path / "JPEGImages" / "480p").iterdir()} == {"cat", "cow", "dog"}


def test_voc_is_lifted_out_of_its_folders(tmp_path, prepare):
    root = "VOCdevkit/VOC2012"
    mask = picture("PNG", mode="L")
    files = {f"{root}/ImageSets/Segmentation/val.txt": b"a\n", f"{root}/JPEGImages/a.jpg": picture()}
    files |= {f"{root}/{kind}/a.png": mask for kind in ("SegmentationObject", "SegmentationClass")}
    pack(tmp_path / "VOCtrainval_11-May-2012.tar", files)
    prepare("voc2012")
    assert len(open_voc(tmp_path, "val", "auto")) == 1
    assert not (tmp_path / "VOCdevkit").exists()


def test_places205(tmp_path, prepare):
    tree = "data/vision/torralba/deeplearning/images256"
    names = ["a/abbey/1.jpg", "a/apartment_building/outdoor/2.jpg", "a/abbey/3.jpg"]
    pack(tmp_path / "imagesPlaces205_resize.tar.gz", {f"{tree}/{name}": picture() for name in names})
    lists = {"train": f"{names[0]} 0\n{names[1]} 8\n", "val": f"{names[2]} 0\n"}
    pack(
        tmp_path / "trainvalsplit_places205.tar.gz",
        {f"trainvalsplit_places205/{split}_places205.csv": text.encode() for split, text in lists.items()},
    )
    prepare("places205")
    assert counts(tmp_path) == [{"abbey": 1, "apartment_building_outdoor": 1}, {"abbey": 1}]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", sorted(set(manifest.names()) - {"yfcc"}))
def test_an_empty_folder_says_what_is_missing_and_where_it_comes_from(tmp_path, name):
    with pytest.raises(DinotoolsError, match="is not there") as raised:
        preparing.run(DataPrepareConfig(name=name, folder=tmp_path))
    known = manifest.read(name)
    addresses = [url for file in known.files for url in file.urls]
    assert any(words in str(raised.value) for words in addresses or [known.how_to_get])
    assert not list(tmp_path.rglob("*.jpg"))


def test_an_archive_of_another_size_is_refused(tmp_path):
    put(tmp_path / "102flowers.tgz", b"half of it")
    with pytest.raises(DinotoolsError, match="is 10 bytes, not 344,862,509"):
        preparing.run(DataPrepareConfig(name="flowers102", folder=tmp_path))


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(DinotoolsError, match="there is no such folder"):
        preparing.run(DataPrepareConfig(name="r1m", folder=tmp_path / "r1m"))


def test_no_move_replaces_a_file(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        put(tmp_path / name)
    moves = [(tmp_path / name, tmp_path / "c" / "1.jpg") for name in ("a/1.jpg", "b/1.jpg")]
    with pytest.raises(DinotoolsError, match="several files"):
        move_all(moves, "photos", "")
    put(tmp_path / "c" / "1.jpg", b"before")
    assert move_all(moves[:1], "photos", "").before == 1
    assert (tmp_path / "c" / "1.jpg").read_bytes() == b"before"


def test_every_manifest_has_a_preparation():
    assert {manifest.read(name).prepare for name in manifest.names()} == set(preparing.PREPARATIONS)
