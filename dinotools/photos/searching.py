"""``dinotools search``: the photos of an index that are most similar to others.

The queries go through the network that made the index, in float32; the similarity is the cosine of two vectors, 1 for
the same photo.

    dinotools search pictures.index beach.jpg holiday/*.jpg --top 20 --html found.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dinotools.configs.photos import SearchConfig
from dinotools.data.images import ImageFiles
from dinotools.photos.network import reopen_network
from dinotools.photos.storage import Index
from dinotools.reporting.ranked_lists import Hit, RankedList, page
from dinotools.reporting.thumbnails import picture
from dinotools.runtime import device
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result, versions
from dinotools.runtime.run_directory import check_writable, write_atomically
from dinotools.search.exact import nearest

Found = dict[str, list[dict[str, Any]]]  # query -> photos, best first: path, similarity


def run(config: SearchConfig) -> Result:
    """Searches an index for some photos.

    Raises:
        DinotoolsError: the index or its network cannot be used, or a query cannot be read.
        RunFailed: a vector is not finite.
    """
    require(config.top > 0, f"is {config.top}", "top", "It must be above 0.")
    queries = list(dict.fromkeys(str(Path(query).expanduser()) for query in config.query))
    if missing := [query for query in queries if not Path(query).is_file()]:
        raise DinotoolsError("there is no such file", ", ".join(missing), "Give image files, no folders.")
    if config.html is not None:
        check_writable(config.html.expanduser(), "--html")  # now, not when the work is done
    runtime = device.prepare(config.device, "fp32", config.workers, seed=0)
    index = Index(config.index.expanduser())
    photos = index.photos
    if not photos:
        raise DinotoolsError("holds no photos", index.folder, "Bring it up to date with `dinotools index`.")
    descriptors = reopen_network(index, config.ckpt, runtime)

    vectors = descriptors.of(ImageFiles(queries), "queries", all_needed=True).tensor().to(runtime.device)
    k = min(config.top, len(photos))
    similarities, rows = (found.cpu() for found in nearest(vectors, index.shards(), k, cosine=True))
    found = {
        query: [{"path": index.path(photos[row]), "similarity": round(s, 6)} for row, s in zip(*best, strict=True)]
        for query, *best in zip(queries, rows.tolist(), similarities.tolist(), strict=True)
    }
    notes = []
    if config.html is not None:
        write_page(config.html.expanduser(), index.folder, found)
        notes.append(f"Open {config.html} in a browser.")
    if not Path(index.facts["photos"]).is_dir():
        notes.append(f"{index.facts['photos']} is gone: repeat `dinotools index` with the folder's new place.")
    return Result(
        title=f"search of {config.index} · {len(photos):,} photos",
        rows=[
            {
                "query": query if rank == 1 else "",
                "rank": rank,
                "similarity": f"{hit['similarity']:.4f}",
                "photo": hit["path"],
            }
            for query, hits in found.items()
            for rank, hit in enumerate(hits, start=1)
        ],
        metrics={"queries": found},
        details=descriptors.describe() | {"photos": len(photos)},
        notes=tuple(notes),
    )


def write_page(path: Path, index: Path, found: Found) -> None:
    """Writes a page of what was found, with the photos in it."""
    lists = []
    for query, hits in track(found.items(), "page", total=len(found)):
        shown = [Hit(hit["path"], hit["similarity"], None, picture(hit["path"])) for hit in hits]
        lists.append(RankedList(query, picture(query), None, {}, shown, 0))
    lead = f"The photos of {index} that are most similar to each query, by the cosine of their vectors."
    text = page("Similar photos", lead, lists, f"dinotools {versions()['dinotools']}")
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
