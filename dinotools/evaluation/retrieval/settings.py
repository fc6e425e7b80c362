"""What the two protocols fix: sizes, scales and whether queries are cropped.

``dino-paper`` is what the authors ran: query images whole (Revisited Oxford and Paris ask for their boxes), Oxford at
224 pixels and one scale, Paris at 512 and three (official README and ``eval_image_retrieval.py``). ``revisitop`` is the
benchmark's own: queries cropped, 1024 pixels, three scales (Radenovic et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

from dinotools.configs.retrieval import RetrievalConfig
from dinotools.features.scales import SCALES
from dinotools.reporting import paper
from dinotools.runtime.errors import require

OXFORD, PARIS = "roxford5k", "rparis6k"
COLUMNS = {OXFORD: "ROx", PARIS: "RPar"}  # of Table 3


@dataclass(frozen=True)
class Settings:
    """How the images of a benchmark are looked at.

    Args:
        imsize: longer side in pixels, at most.
        scales: of which features are averaged.
        crop_queries: whether queries are cropped to their boxes.
    """

    imsize: int
    scales: tuple[float, ...]
    crop_queries: bool

    def __str__(self) -> str:
        scales = f"{len(self.scales)} scales" if len(self.scales) > 1 else "one scale"
        return f"{self.imsize} px, {scales}, queries {'cropped' if self.crop_queries else 'whole'}"


def settings_of(config: RetrievalConfig) -> Settings:
    """The protocol's settings, where the options do not say otherwise.

    Raises:
        DinotoolsError: an option means nothing.
    """
    for name in ("gpus", "depth"):
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    require(config.imsize is None or config.imsize > 0, f"is {config.imsize}", "imsize", "It must be above 0.")
    require(config.query_expansion >= 0, f"is {config.query_expansion}", "query_expansion", "It must not be negative.")
    require(config.alpha >= 0, f"is {config.alpha}", "alpha", "It must not be negative.")
    require(config.whiten_dim is None or config.whiten is not None, "needs --whiten", "whiten_dim", "Give both.")
    kept = config.whiten_dim
    require(kept is None or kept > 0, f"is {kept}", "whiten_dim", "It must be above 0.")
    searches = config.search != "exact"
    require(not searches or config.distractors is not None, "is for distractors", "search", "Give --distractors.")
    require(not searches or config.index is not None, "needs a file", "search", "Give --index FILE.")
    require(searches or config.index is None, "is not used", "index", "Add --search ivfpq or flat, or leave it out.")
    usual = paper_settings(config)
    scales = usual.scales if config.multiscale is None else SCALES if config.multiscale else (1.0,)
    return Settings(config.imsize or usual.imsize, scales, usual.crop_queries)


def paper_settings(config: RetrievalConfig) -> Settings:
    """What the protocol has for the data set; one's own gets the finer of the paper's two settings."""
    if config.protocol == "revisitop":
        return Settings(1024, SCALES, crop_queries=True)
    if config.dataset.lower() == OXFORD:
        return Settings(224, (1.0,), crop_queries=False)
    return Settings(512, SCALES, crop_queries=False)


def paper_map(config: RetrievalConfig, settings: Settings, source: str) -> dict[str, float]:
    """Table 3's mAP in percent of a released network, where everything is as in the paper: protocol -> mAP."""
    same = settings == paper_settings(config) and config.protocol == "dino-paper" and config.pooling == "cls"
    if not same or config.whiten or config.query_expansion or config.distractors:
        return {}
    column = COLUMNS.get(config.dataset.lower())
    published = {
        name: paper.tables()["table3"].published(source, f"{column} {name[0].upper()}") for name in ("medium", "hard")
    }
    return {name: value for name, value in published.items() if value is not None}
