"""The tests: one module a section of the document, its sentences quoted above them.

A test holds the rules of its mark. What it sees is judged with `checks`; a rule that another test needs to
hold first is no business of its own, so that one violation is reported as one.
"""
