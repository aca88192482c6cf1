"""What a mesh of real agents does, step by step, for a person to watch: `just scenario NAME`.

A scenario is a module here with a coroutine `run(stage)`, and the first line of its docstring says what it shows. The
live tests run every one of them (tests/live/test_scenarios.py).
"""
