"""The contract suite: tests whether a deployed backend keeps the Video Calls API.

* `rules/`: the tests, one module for each section of the document. They use only HTTP, and only what the
  contract promises.
* `backend`, `users`, `exchange`, `checks`, `scheduling`, `observers`, `fuzzing/`: what the tests use.
* `results`, `baseline`, `reports/`: from the result of each test to the reports.
* `command`, `testing`, `preflight`, `reference_server`, `run`, `pytest_plugin`: what starts a run.

This package does not import the reference server.
"""
