"""The two forms on circuits: what is called, what is answered, and which files they may touch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forms.catalogue import AnyForm, Catalogue
from forms.circuits.calls import circuit_forms
from forms.circuits.folder import CircuitFolder, promised_operations
from forms.circuits.generator.generate import Algorithm, Arithmetic, algorithms, generate
from forms.circuits.kinds import Kind, Operation
from forms.datum import Datum
from forms.errors import BadArgument, FormFailed, NotFound
from forms.evaluate import Evaluator
from forms.reader import read_datum
from forms.writer import write_datum
from tests.forms.circuits.files import golden, golden_bytes, raw_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "blobs"
    (root / "below").mkdir(parents=True)
    (root / "below" / "toy.bin").write_bytes(golden_bytes("toy_random.bin"))
    for algorithm in algorithms(Arithmetic.ADDER):
        (root / algorithm.addition).write_bytes(generate(Arithmetic.ADDER, 5, algorithm))
    (tmp_path / "outside").write_bytes(generate(Arithmetic.ADDER, 5, Algorithm()))
    (root / "link").symlink_to(tmp_path / "outside")
    return root


@pytest.fixture
def catalogue(folder: Path) -> Catalogue:
    return Catalogue(circuit_forms(folder))


def form(folder: Path | None, name: str) -> AnyForm:
    return next(form for form in circuit_forms(folder) if form.name == name)


def asked(catalogue: Catalogue, text: str) -> str:
    return Evaluator(catalogue).text(text.encode()).reply.decode().strip()


def test_one_circuit_over_batches(catalogue: Catalogue) -> None:
    wanted = golden("toys.golden.json")["random"]
    answer = asked(catalogue, '(cuda-sim-ops-bin "below/toy.bin" 141)')
    for pair in (f"(toffoli {wanted['total_toffoli']})", f"(clifford {wanted['total_clifford']})", "(clean #f)"):
        assert pair in answer


def test_options_are_pairs(catalogue: Catalogue) -> None:
    plain = asked(catalogue, '(cuda-sim-ops-bin "below/toy.bin" 2)')
    lfsr = asked(catalogue, '(cuda-sim-ops-bin "below/toy.bin" 2 (check none) (rng lfsr))')
    assert plain.startswith("(ok")
    assert lfsr.startswith("(ok")
    assert plain != lfsr


@pytest.mark.parametrize("name", ["cuda-sim-axis", "cuda-sim-axis-flip"])
def test_variants_in_order(folder: Path, name: str) -> None:
    axis = form(folder, name)
    datum = read_datum('(("vbe" "gidney" "cuccaro" "gidney") 4 (check adder))')
    assert isinstance(datum, list)
    results = axis.reference(axis.read_text(datum))
    assert [result.toffoli // 64 for result in results] == [16, 4, 8, 4]
    assert all(result.clean and result.shots == 4 for result in results)
    said = axis.write_text(results)
    assert read_datum(write_datum(said)) == said


def test_a_file_is_read_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue(circuit_forms(folder))
    call = '(cuda-sim-axis ("vbe" "vbe" "vbe") 4 (check adder))'
    first = asked(catalogue, call)
    with monkeypatch.context() as patched:
        patched.setattr("forms.circuits.folder.load_circuit", None)
        assert asked(catalogue, call) == first
    (folder / "vbe").write_bytes(golden_bytes("toy_norand.bin"))
    assert "(error (argument" in asked(catalogue, call)


@pytest.mark.parametrize("name", ["nothing", "link", "../outside", "below", "", "a\\0b", "x" * 5000])
def test_what_is_not_a_file_of_the_folder_is_not_found(folder: Path, name: str) -> None:
    with pytest.raises((NotFound, BadArgument)):
        form(folder, "cuda-sim-ops-bin").read_text([name.replace("\\0", "\0"), 1])


def test_an_absolute_path_is_taken_inside_the_folder_only(folder: Path) -> None:
    inside, outside = str(folder / "vbe"), str(folder.parent / "outside")
    operations = form(folder, "cuda-sim-ops-bin")
    assert operations.read_text([inside, 1]).paths == (Path(inside).resolve(),)
    with pytest.raises(NotFound):
        operations.read_text([outside, 1])


def test_without_a_folder_there_are_no_circuits() -> None:
    with pytest.raises(NotFound, match="no folder"):
        form(None, "cuda-sim-ops-bin").read_text(["vbe", 1])


@pytest.mark.parametrize(
    "call",
    [
        "(cuda-sim-ops-bin)",
        '(cuda-sim-ops-bin "vbe")',
        '(cuda-sim-ops-bin "vbe" 0)',
        '(cuda-sim-ops-bin "vbe" 1.5)',
        "(cuda-sim-ops-bin vbe 1)",
        '(cuda-sim-ops-bin "vbe" 1 (rng dice))',
        '(cuda-sim-ops-bin "vbe" 1 (check))',
        '(cuda-sim-ops-bin "vbe" 1 lfsr)',
        "(cuda-sim-axis () 4)",
        '(cuda-sim-axis "vbe" 4)',
        '(cuda-sim-axis ("vbe") -1)',
    ],
)
def test_calls_that_make_no_sense_are_argument_errors(catalogue: Catalogue, call: str) -> None:
    assert asked(catalogue, call).startswith("(error (argument")


def test_a_bad_circuit_names_its_operation(folder: Path, catalogue: Catalogue) -> None:
    (folder / "bad").write_bytes(raw_file([Operation(Kind.NEG), Operation(Kind.X)]))
    assert "(error (argument" in (answer := asked(catalogue, '(cuda-sim-ops-bin "bad" 1)'))
    assert "op 1: kind=X" in answer


def test_a_file_that_goes_away_is_not_found(folder: Path) -> None:
    operations = form(folder, "cuda-sim-ops-bin")
    call = operations.read_text(["vbe", 1])
    shutil.rmtree(folder)
    for use in (operations.reference, operations.work):
        with pytest.raises(NotFound, match="cannot be read"):
            use(call)


def test_variants_are_loaded_in_parts_that_fit_memory(folder: Path) -> None:
    circuits = CircuitFolder(folder)
    vbe, gidney, toy = (circuits.find(name) for name in ("vbe", "gidney", "below/toy.bin"))
    sizes = {path: circuits.load(path).operations for path in (vbe, gidney, toy)}
    paths = (vbe, gidney, vbe, toy, toy, gidney)
    parts = list(circuits.in_parts(paths, sizes[vbe] + sizes[gidney]))
    assert [len(part) for part in parts] == [3, 2, 1]
    assert [circuit.operations for part in parts for circuit in part] == [sizes[path] for path in paths]
    assert [len(part) for part in circuits.in_parts(paths)] == [6]


def test_work_grows_with_operations_batches_and_variants(folder: Path) -> None:
    operations, axis = form(folder, "cuda-sim-ops-bin"), form(folder, "cuda-sim-axis")
    calls: list[list[Datum]] = [["vbe", 1], ["vbe", 9], ["below/toy.bin", 9]]
    work = [operations.work(operations.read_text(call)) for call in calls]
    assert work == sorted(set(work))
    one, two = (axis.work(axis.read_text([["vbe"] * count, 4])) for count in (1, 2))
    assert two == 2 * one


def test_there_are_no_frames(folder: Path) -> None:
    operations = form(folder, "cuda-sim-ops-bin")
    assert operations.magic == b""
    with pytest.raises(FormFailed, match="text"):
        operations.measure(1 << 20)
    with pytest.raises(FormFailed, match="text"):
        operations.read_frame(b"BSIM")


def test_a_circuit_asks_for_the_memory_that_it_takes(folder: Path) -> None:
    """As many times as the public circuit's 12.8 million operations are more than this one's."""
    asked_bytes: list[int] = []
    evaluator = Evaluator(Catalogue(circuit_forms(folder)), reserve=asked_bytes.append)
    assert evaluator.text(b'(cuda-sim-axis ("vbe" "vbe") 4 (check adder))').reply.startswith(b"(ok ")
    operations = promised_operations(folder / "vbe")
    assert (80 + 192) * operations < sum(asked_bytes) < (80 + 192) * operations + 100_000
