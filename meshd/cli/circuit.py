"""`meshd circuit FILE`: run a QECCOPS circuit here and judge it; `meshd circuit generate` writes small correct ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from meshd.cli.output import JsonFlag, fail, print_json, reason_of

if TYPE_CHECKING:
    from forms.circuits.simulation import Options
    from forms.circuits.xof import SeedVersion


class _FileOrCommand(TyperGroup):
    """A first word that names no command is the file to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["run", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


app = typer.Typer(
    cls=_FileOrCommand,
    no_args_is_help=True,
    help="Run a circuit of the QECCOPS format on this host, or write small ones: meshd circuit FILE",
)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="QECCOPS1 or QECCOPSZ")],
    shots: Annotated[int, typer.Option(min=0, max=10**7, help="attempts, 64 a batch")] = 9024,
    check: Annotated[
        str, typer.Option(help="secp256k1, toy-curve, adder, modular-adder, modular-multiplier or none")
    ] = "secp256k1",
    rng_mode: Annotated[
        str,
        typer.Option("--rng", "--rng-mode", help="shake (the public evaluator's) or lfsr (xorshift64*, the same seed)"),
    ] = "shake",
    seed_version: Annotated[
        str, typer.Option(help="v2 (the public evaluator's) or v1 (its own before 2026-05-28)")
    ] = "v2",
    batches: Annotated[bool, typer.Option("--batches", help="each batch too, with digests of its final state")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run FILE over many shots, count its gates and judge what it computes. Exits 1 unless every check passed."""
    # Numpy and what is compiled are for this command only.
    from forms.circuits.simulation import Options
    from forms.circuits.toy_checks import CHECKS
    from forms.circuits.xof import RngMode, SeedVersion
    from forms.errors import FormFailed

    rng = RngMode(_one_of("rng", rng_mode, RngMode))
    options = Options(attempts=shots, rng=rng, check=CHECKS[_one_of("check", check, CHECKS)], digests=batches)
    seed = SeedVersion(_one_of("seed-version", seed_version, SeedVersion))
    try:
        report = _report(file, options, seed, batches=batches)
    except OSError as failure:
        _refuse(reason_of(failure), as_json)
    except FormFailed as failure:
        _refuse(str(failure) if as_json else f"{file}: {failure}", as_json)
    if as_json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(0 if report["clean"] else 1)


def _refuse(reason: str, as_json: bool) -> NoReturn:
    if not as_json:
        fail(reason)
    print_json({"error": reason})
    raise typer.Exit(1)


def _one_of(option: str, value: str, allowed: Iterable[str]) -> str:
    names = tuple(allowed)
    if value not in names:
        raise typer.BadParameter(f"{option} is one of {', '.join(names)}, got {value!r}")
    return value


def _report(file: Path, options: Options, seed: SeedVersion, *, batches: bool) -> dict[str, Any]:
    """Raises FormFailed, OSError."""
    from forms.circuits.circuit import load_circuit
    from forms.circuits.report import as_json
    from forms.circuits.simulation import simulate

    return as_json(simulate(load_circuit(file, seed_version=seed), options), batches=batches)


def _show(report: dict[str, Any]) -> None:
    width = max(len(name) for name in report)
    for name, value in report.items():
        if name != "batches":
            typer.echo(f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {value}")
    for batch in report.get("batches", []):
        typer.echo("  ".join(f"{name} {value}" for name, value in batch.items()))


@app.command()
def generate(
    arithmetic: Annotated[str, typer.Argument(help="adder, modular-adder, modular-multiplier or toy-curve")],
    folder: Annotated[Path, typer.Option(file_okay=False, help="where the files go")] = Path(),
    width: Annotated[int, typer.Option(min=5, max=16, help="wires of a register")] = 8,
    as_json: JsonFlag = False,
) -> None:
    """Write one circuit for each algorithm of an arithmetic at one width, all correct: variants to measure with."""
    from forms.circuits.generator.generate import Arithmetic, algorithms
    from forms.circuits.generator.generate import generate as generated

    chosen = Arithmetic(_one_of("arithmetic", arithmetic, Arithmetic))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for algorithm in algorithms(chosen):
        path = folder / f"{chosen}-{width}-{algorithm.name_of(chosen)}.ops"
        path.write_bytes(generated(chosen, width, algorithm))
        paths.append(str(path))
    if as_json:
        print_json({"check": str(chosen), "files": paths})
    else:
        typer.echo("\n".join(paths))
