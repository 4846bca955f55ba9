"""The tests: one module for each section of the document, whose sentences are quoted above the tests.

`test_call_ids` tests what four sections say about the id of a call.

The mark `rule` of a test names the rules that it checks. If the backend breaks another rule on which the test
depends, the test raises `Blocked`, so that each violation is reported once.
"""
