import copyreg
import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinotools.data.safe_pickle import CONSTRUCTORS, read_pickle
from dinotools.runtime.errors import DinotoolsError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = {"text": "é", "numbers": [1, -(2**70), 0.5, True, None], "nested": {"t": (1, (2, b"\x00\xff"))}, "none": b""}


class Intruder:
    """What a hostile file may hold: to unpickle it is to create a folder."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_as_they_are(protocol):
    assert read_pickle(pickle.dumps(PLAIN, protocol=protocol), "file") == PLAIN


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64),
        np.arange(24, dtype=">i2").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        np.array([0.5, np.inf, -1e300]),
        np.array([1.5], dtype=">f4"),
        np.array([True, False]),
        np.array(["Oxford", "Köln", "𝔘"]),
        np.array([[1, [2]], "three", None], dtype=object),
        np.zeros((0,)),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
@pytest.mark.parametrize("numpy_1", [False, True])
def test_arrays_become_lists(array, protocol, numpy_1):
    content = pickle.dumps({"x": array, "again": array}, protocol=protocol)
    if numpy_1 and protocol < 4:  # later ones write how long a name is
        content = content.replace(b"numpy._core.", b"numpy.core.")
    elif numpy_1:
        content = content.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
        content = content.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
        content = content[:2] + content[11:]  # without the frame, whose length has changed
    read = read_pickle(content, "file")
    assert read == {"x": array.tolist(), "again": array.tolist()}
    assert json.loads(json.dumps(read)) == read


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_numbers_become_numbers(protocol):
    values = [np.float64(0.1), np.float32(0.5), np.int64(-7), np.uint8(200), np.bool_(True), np.str_("a")]
    read = read_pickle(pickle.dumps(values, protocol=protocol), "file")
    assert read == [value.item() for value in values]
    assert [type(value) for value in read] == [float, float, int, int, bool, str]


def test_python_2_wrote_text_and_memory_as_one_type():
    text = b"(U\x04nameU\x02K\xf6"  # a dictionary begins: 'name': 'K\xf6'
    array = (
        b"U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\xfftb"
    )
    names = (
        b"U\x01scnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02S2K\x00K\x01\x87R(K\x03U\x01|NNNK\x02K\x01K\x00tb"
        b"\x89U\x04ab\xe4\x00tb"
    )
    content = b"\x80\x02}" + text + array + names + b"u."
    assert pickle.loads(content, encoding="latin1")["x"].tolist() == [1, -1]  # the bytes are what they should be
    assert read_pickle(content, "file") == {"name": "Kö", "x": [1, -1], "s": ["ab", "ä"]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["alone", "list", "value", "object array"])
def test_code_is_refused_by_name_and_does_not_run(tmp_path, protocol, place):
    intruder = Intruder(tmp_path / "canary")
    array = np.array([1, 2], dtype=object)
    array[1] = intruder
    content = {"alone": intruder, "list": [[1, intruder]], "value": {"imlist": intruder}, "object array": array}[place]
    written = pickle.dumps(content, protocol=protocol)
    with pytest.raises(DinotoolsError, match=f"refused: it asks for {os.mkdir.__module__}.mkdir") as error:
        read_pickle(written, "gnd.pkl")
    assert not intruder.canary.exists()
    assert str(error.value).startswith("gnd.pkl: ")
    pickle.loads(written)
    assert intruder.canary.exists()  # so it was dangerous indeed


def stack_global(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


STRUCTURE = b"(K\x03U\x01|N(U\x01atU\x01a}J\x08\x00\x00\x00J\xff\xff\xff\xffK\x00tb"
HOSTILE = {
    "INST": (b"(S'MARK'\nios\nmkdir\n.", "os.mkdir"),
    "OBJ": (b"(cos\nmkdir\nS'MARK'\no.", "os.mkdir"),
    "NEWOBJ": (b"\x80\x02csubprocess\nPopen\nU\x04MARK\x85\x81.", "subprocess.Popen"),
    "eval": (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
    "Python 2": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    "method of an allowed name": (b"\x80\x04" + stack_global("numpy", "ndarray.tofile") + b".", "numpy.ndarray.tofile"),
    "path through a module": (b"\x80\x04" + stack_global("numpy", "os.system") + b".", "numpy.os.system"),
    "NumPy's own unpickling": (b"cnumpy\nload\n(S'MARK'\ntR.", "numpy.load"),
    "our own module": (b"cdinotools.data.safe_pickle\nCONSTRUCTORS\n.", "dinotools.data.safe_pickle.CONSTRUCTORS"),
    "another codec": (b"c_codecs\nencode\n(S'MARK'\nS'zip'\ntR.", "_codecs.encode to another encoding"),
    "set an attribute": (b"cnumpy\ndtype\n(N}S'make'\nNstb.", "changes to a function"),
    "set a dictionary": (b"c_codecs\nencode\n}S'make'\nNsb.", "changes to a function"),
    "a structured type": (b"cnumpy\ndtype\n(U\x02V8tR.", "numpy.dtype('V8')"),
    "an object beyond its record": (b"cnumpy\ndtype\n(U\x02O8tR" + STRUCTURE + b".", "a structured numpy.dtype"),
    "a very long name": (b"c" + b"a" * 5000 + b"\nb\n.", "a" * 80 + ", which"),
    "a name that paints the terminal": (b"c\x1b[31m\nb\n.", "\\x1b[31m.b"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_pickle_never_writes_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(CONSTRUCTORS)
    content, name = HOSTILE[case]
    with pytest.raises(DinotoolsError) as error:
        read_pickle(content, "gnd.pkl")
    assert f"refused: it asks for {name}" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    assert before == CONSTRUCTORS
    assert read_pickle(pickle.dumps(np.arange(3)), "file") == [0, 1, 2]


def test_registered_extensions_are_refused():
    copyreg.add_extension("os", "getpid", 240)
    try:
        content = b"\x80\x02\x82\xf0)R."
        assert pickle.loads(content) == os.getpid()  # which also puts it into a cache
        with pytest.raises(DinotoolsError, match="copyreg extension 240"):
            read_pickle(content, "file")
    finally:
        copyreg.remove_extension("os", "getpid", 240)
        copyreg.clear_extension_cache()


DAMAGED = {
    "empty": b"",
    "text": b"hello",
    "no value": b".",
    "a persistent name": b"Pname\n.",
    "a call of a number": b"K\x01)R.",
    "a forged place in the memory": b"K\x01r\xff\xff\xff\x7f",
    "an array without memory": b"cnumpy\nndarray\n)R(K\x01K\x05\x85cnumpy\ndtype\n(U\x02i8tR\x89U\x01atb.",
    "a vast array": b"cnumpy\nndarray\n)R(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\n(U\x02i8tR\x89U\x01atb.",
    "a vast text": b"\x8d" + (2**40).to_bytes(8, "little") + b"a.",
    "impossible characters": b"cnumpy\nndarray\n)R(K\x01K\x01\x85cnumpy\ndtype\n(U\x02U1tR\x89U\x04\xff\xff\xff\xfftb.",
    "a dtype that is none": b"cnumpy\nndarray\n)R(K\x01K\x01\x85}\x89U\x01atb.",
    "bytes from a size": b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR.",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_pickle(case):
    with pytest.raises(DinotoolsError, match="is no pickle, or a damaged one"):
        read_pickle(DAMAGED[case], "file")


def test_memory_is_for_what_a_file_holds_not_for_what_it_announces():
    tracemalloc.start()
    try:
        with pytest.raises(DinotoolsError, match="damaged"):
            read_pickle(b"\x80\x05\x96" + (2**30).to_bytes(8, "little") + b"a.", "file")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(value[key]) for key in value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, (str, bytes, bytearray, bool, int, float))


SAMPLE = {"names": ["a", "b"], "gnd": [{"easy": np.arange(3), "bbx": np.ones(4)}], "n": np.float64(2)}


@given(protocol=st.sampled_from(PROTOCOLS), share=st.floats(0, 1, exclude_max=True))
def test_no_truncated_pickle_is_read(protocol, share):
    content = pickle.dumps(SAMPLE, protocol=protocol)
    with pytest.raises(DinotoolsError):
        read_pickle(content[: int(share * len(content))], "file")


@settings(max_examples=500)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_plain_values_or_an_error(protocol, changes):
    content = bytearray(pickle.dumps(SAMPLE, protocol=protocol))
    for share, value in changes:
        content[int(share * len(content))] = value
    try:
        read = read_pickle(bytes(content), "file")
    except DinotoolsError:
        return
    assert is_plain(read) or "_Constructor" in repr(read) or "_Dtype" in repr(read)
