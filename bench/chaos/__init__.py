"""Requests to a mesh of real agents in which agents, engines and links die at random: `python -m bench.chaos`.

`harm` breaks things and mends them, `request` asks and judges what came, `run` has both at once, `__main__` reports.
"""
