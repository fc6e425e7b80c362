"""Groups hold what is similar to their first photo, and nothing else."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dinotools.photos import grouping
from dinotools.photos.grouping import similar_photos, stars

CPU = torch.device("cpu")


def all_pairs(vectors, threshold):
    """The slow oracle."""
    similarity = F.normalize(vectors.float(), dim=1) @ F.normalize(vectors.float(), dim=1).T
    n = len(vectors)
    return {(i, j) for i in range(n) for j in range(n) if i != j and similarity[i, j] >= threshold}


def test_all_pairs_are_found_across_shards_and_in_crowds():
    torch.manual_seed(0)
    centres = torch.randn(20, 8)
    crowd = centres[0] + 0.01 * torch.randn(50, 8)  # more than the first search asks for
    vectors = torch.cat([centres, crowd, centres[:5] + 0.02 * torch.randn(5, 8)])[torch.randperm(75)].half()
    for threshold in (0.3, 0.9, 0.999):
        found = similar_photos(vectors.split(20), threshold, CPU)
        assert {(i, j) for i, others in found.items() for j in others} == all_pairs(vectors, threshold)
        assert all(found[j][i] == similarity for i, others in found.items() for j, similarity in others.items())


def test_photos_without_likeness_are_no_group():
    assert similar_photos([torch.eye(4)], 0.5, CPU) == {}
    assert stars({}, []) == []


def test_unlike_photos_are_not_chained():
    chain = {0: {1: 0.9}, 1: {0: 0.9, 2: 0.9}, 2: {1: 0.9, 3: 0.95}, 3: {2: 0.95}}
    assert stars(chain, [0, 1, 2, 3]) == [[(0, 1.0), (1, 0.9)], [(2, 1.0), (3, 0.95)]]
    assert stars(chain, [1, 0, 3, 2]) == [[(1, 1.0), (0, 0.9), (2, 0.9)]]
    assert stars(chain, [3, 2, 1, 0]) == [[(3, 1.0), (2, 0.95)], [(1, 1.0), (0, 0.9)]]


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1])), st.randoms())
def test_groups_are_stars_of_photos_that_occur_once(pairs, random):
    neighbours = {}
    for i, j in pairs:
        neighbours.setdefault(i, {})[j] = neighbours.setdefault(j, {})[i] = 0.9
    order = random.sample(sorted(neighbours), len(neighbours))
    groups = stars(neighbours, order)
    members = [photo for group in groups for photo, _ in group]
    assert len(members) == len(set(members))
    for group in groups:
        first = group[0][0]
        assert len(group) > 1
        assert all(photo in neighbours[first] for photo, _ in group[1:])
        assert all(order.index(first) < order.index(photo) for photo, _ in group[1:])
    # nobody stays outside who is similar to a first photo
    assert not any(set(neighbours[group[0][0]]) - set(members) for group in groups)


def test_a_crowd_beyond_the_last_search_keeps_the_most_similar(monkeypatch):
    monkeypatch.setattr(grouping, "NEIGHBOURS", (2, 4))
    found = similar_photos([torch.ones(10, 3)], 0.9, CPU)
    assert all(len(others) >= 3 for others in found.values())
