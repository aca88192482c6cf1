"""Small circuits that are correct by simulation: one arithmetic at one width by several algorithms.

`generate` writes a QECCOPS1 file; `forms.circuits.checks` knows what each should compute.
"""
