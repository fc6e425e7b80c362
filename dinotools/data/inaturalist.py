"""iNaturalist 2018 and 2019, split as their competitions split them.

torchvision reads the archives but knows no split: the lists of training and test images are the official
``train2018.json`` and ``val2018.json``. The archives are of about a hundred gigabytes and not fetched here.
"""

from __future__ import annotations

import json

from dinotools.data.images import ImageFiles
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError

INATURALIST = {"inaturalist2018": "2018", "inaturalist2019": "2019"}  # name -> year


def open_inaturalist(name: str, split: str) -> ImageFiles:
    """One split, from a folder of the cache in which the official files lie as they were unpacked, or links to them.

    Args:
        name: a key of ``INATURALIST``.
        split: ``train`` or ``val``, which stands for the test images: labels of the others are not public.

    Raises:
        DinotoolsError: the list of images is not there, or is none.
    """
    folder, year = cache_directory("datasets", name), INATURALIST[name]
    path = folder / f"{split}{year}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        category = {annotation["image_id"]: annotation["category_id"] for annotation in document["annotations"]}
        images = [(str(folder / image["file_name"]), category[image["id"]]) for image in document["images"]]
    except OSError as error:
        raise DinotoolsError(
            f"{name} is not there ({error.strerror}: {path.name})",
            folder,
            f"Put or link train_val{year}/, train{year}.json and val{year}.json there, from "
            "https://github.com/visipedia/inat_comp.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DinotoolsError("is no list of images and categories", path, "Download it again.") from error
    ids = sorted(set(category.values()))
    number = {category_id: label for label, category_id in enumerate(ids)}
    return ImageFiles([file for file, _ in images], [number[i] for _, i in images], [str(i) for i in ids])
