"""The contract suite: tests whether a deployed backend keeps the Video Calls API.

* `rules/`: the tests, one module for each section of the document. They use only HTTP, and only what the
  contract promises.
* `backend`, `users`, `exchange`, `checks`, `scheduling`, `fuzzing/`: what the tests use.
* `observers/`: checks that run on every exchange (a request and its response) of a run, whichever test sent
  it.
* `results`, `baseline`, `reports/`: turn the result of each test into the reports.
* `command`, `testing`, `preflight`, `reference_server`, `run`, `pytest_plugin`: what starts a run.

This package does not import the reference server.
"""
