# Recipes for people; CI runs `just test` and nothing else.
# Needs uv. The environment, the engine included, is made by the first recipe that wants it.

run := "uv run --extra llm"

# List the recipes
default:
    @just --list

# Make the environment; the first time llama.cpp is compiled (about ten CPU-minutes, then cached)
setup:
    uv sync --extra llm

# Rebuild the engine for this host's hardware: cpu, cuda, rocm, vulkan or metal (MESHD_ENGINE_FLAGS adds more)
engine backend="cpu":
    {{run}} python tools/engine.py {{backend}}

# Format and put imports in order
fmt:
    {{run}} ruff format .
    {{run}} ruff check --fix .

# What needs no process: format, lint, types, layers
check:
    {{run}} ruff format --check .
    {{run}} ruff check .
    {{run}} mypy
    {{run}} lint-imports

# Everything that CI runs; three files of tests at a time, and live ones that failed so once more alone
test *arguments: check
    {{run}} python -m tools.second_turn {{arguments}}

# Only the tests that start real processes, or use real sockets
test-live:
    {{run}} pytest -m live

# Five agents left alone on bad ways: `just soak --loss 5 --minutes 10`
soak *arguments:
    {{run}} python -m bench.soak {{arguments}}

# A thousand requests while agents, engines and links die at random: `just chaos --seed 2`
chaos *arguments:
    {{run}} python -m bench.chaos {{arguments}}

# What needs an NVIDIA GPU; cuda13 for a driver of CUDA 13
test-gpu extra="cuda12":
    {{run}} --extra {{extra}} pytest tests/gpu

# Every kernel's cases on a host build that stops at what a GPU would not notice, or not survive
sanitize:
    {{run}} python -m tools.sanitize_kernels

# Three agents on this machine, one chat through the lite client
demo *arguments:
    {{run}} meshd demo {{arguments}}

# Watch what a mesh of real agents does: forced-split, too-big, … (without a name: list them)
scenario *name:
    {{run}} python -m tools.scenarios {{name}}

# Pin every version that resolves today
pin:
    uv run --no-project python tools/pin.py

# Pack meshd, all it needs and the built engine into one archive that installs without a network on a host like this
bundle *arguments:
    {{run}} --extra cpu-forms python -m tools.bundle {{arguments}}

# Build the documentation into build/site; any warning is an error
site:
    {{run}} zensical build --clean --strict

# Refresh the tables of docs/protocol.md and docs/forms.md from code and data, and check that the docs name files that exist
docs:
    {{run}} python -m tools.protocol
    {{run}} python -m tools.catalogue
    {{run}} pytest tests/docs -q
