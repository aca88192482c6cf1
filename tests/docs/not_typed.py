"""Commands of the documents that `tests/live/test_docs_commands.py` does not type, each with the reason.

A pattern has to match the whole command, as `commands.py` reads it.
"""

from __future__ import annotations

NOT_TYPED: tuple[tuple[str, str], ...] = (
    (
        r"pip install uv && uv run .*",
        "makes an environment; CI begins with it, and tests/live/test_demo.py runs the demo",
    ),
    (r"uv tool install .*", "changes the user's own tools; tests/netns/test_bundle.py installs into a folder"),
    (r"uv pip install .*", "tests/live/test_write_a_form.py installs the page's form"),
    (r"meshd forms collatz", "tests/live/test_write_a_form.py has the page's form installed"),
    (r"curl .*collatz-steps.*", "tests/live/test_write_a_form.py has the page's form installed"),
    (r"curl .*sess-….*", "tests/live/test_sessions.py has a session of its own to name"),
    (r"just engine cuda", "compiles llama.cpp for a GPU, for ten minutes"),
    (r"just bundle", "tests/netns/test_bundle.py makes the archive and installs it"),
    (r"tar -xf meshd-.*", "tests/netns/test_bundle.py makes the archive and installs it"),
    (r"sudo .*", "changes the host; tests/meshd/test_install_service.py types the same for a user"),
    (r"docker .*", "wants a container engine; tests/live/test_compose.py types what the containers run"),
    (r"meshd token accept CODE", "wants a host that asks at that moment; tests/netns/test_pairing.py has one"),
    (r"echo '\(ping\)' \| nc .*", "tests/docs/test_bend_page.py types it, where there is an nc"),
    (r"meshd poc audit", "tests/forms/poc/test_published.py runs the audit whole"),
    (r"meshd circuit FILE .*", "the reader's own file; the same command is typed with a generated one"),
)
