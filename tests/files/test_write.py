from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from moee.errors import InputError, OutputError
from moee.files.write import Embedded, check_output, jsonl_records, write
from moee.types import Views

TEXTS = ["one", "zwei ö", "line\nend"]


@pytest.fixture
def embedded() -> Embedded:
    generator = np.random.default_rng(0)
    views = Views(
        hidden_states=generator.normal(size=(3, 4)).astype(np.float32),
        routing_weights=generator.random(size=(3, 6)).astype(np.float32),
        layer_ids=(1, 3),
        num_experts=(2, 4),
    )
    return Embedded(texts=TEXTS, vectors=generator.normal(size=(3, 5)).astype(np.float32), views=views)


def read_back(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and hidden states as another program would read them."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            assert arrays["layer_ids"].tolist() == [1, 3]
            assert arrays["num_experts"].tolist() == [2, 4]
            return arrays["embeddings"], arrays["hidden_states"]
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    else:
        rows = parquet.read_table(path).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row["text"] for row in rows] == TEXTS
    assert all(len(row["routing_weights"]) == 6 for row in rows)
    return np.float32([row["embedding"] for row in rows]), np.float32([row["hidden_states"] for row in rows])


@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".parquet"])
def test_every_format_gives_back_the_exact_float32_values(tmp_path: Path, embedded: Embedded, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    check_output(path, with_views=True)
    write(path, embedded)
    vectors, hidden_states = read_back(path)
    assert np.array_equal(vectors, embedded.vectors)
    assert embedded.views is not None
    assert np.array_equal(hidden_states, embedded.views.hidden_states)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_npy_holds_the_vectors_alone(tmp_path: Path, embedded: Embedded) -> None:
    path = tmp_path / "OUT.NPY"
    check_output(path)
    write(path, embedded)
    loaded = np.load(path)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, embedded.vectors)
    with pytest.raises(InputError, match="cannot take the views as well"):
        check_output(path, with_views=True)


def test_json_numbers_are_the_shortest_that_give_back_the_float32() -> None:
    record = next(jsonl_records(Embedded(texts=["x"], vectors=np.float32([[0.1, 1e-8, -2.0]]))))
    assert json.dumps(record["embedding"]) == "[0.1, 1e-08, -2.0]"


@pytest.mark.parametrize("name", ["out.txt", "out", "out.npy.gz"])
def test_unknown_suffixes_are_refused_with_the_list(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"one of \.npy, \.npz, \.jsonl, \.parquet"):
        check_output(tmp_path / name)


def test_places_that_cannot_be_written_are_known_beforehand(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        check_output(tmp_path / "missing" / "out.npy")
    folder = tmp_path / "folder.npy"
    folder.mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        check_output(folder)
    with pytest.raises(OutputError, match=r"Cannot write '/proc/out\.npy'"):
        check_output(Path("/proc/out.npy"))


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_output(tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_a_full_disk_leaves_the_older_file_and_no_rest(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands for the full disk: the same system call fails with the same kind of error."""
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"older")
    program = (
        "import sys; from pathlib import Path; import numpy as np; from moee.errors import OutputError\n"
        "from moee.files.write import Embedded, write\n"
        "vectors = np.random.default_rng(0).normal(size=(500, 300)).astype('float32')\n"
        "try: write(Path(sys.argv[1]), Embedded(texts=['x'] * 500, vectors=vectors))\n"
        "except OutputError as error: print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing was left half-written" in done.stdout
    assert path.read_bytes() == b"older"
    assert [child.name for child in tmp_path.iterdir()] == [path.name]
