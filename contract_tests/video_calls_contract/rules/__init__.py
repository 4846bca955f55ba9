"""The tests: one module for each section of the document. Comments above the tests quote its sentences.

`test_call_ids` belongs to four sections: it tests what they say about the id of a call.

The mark `rule` of a test names the rules that it checks. If the backend breaks another rule on which the test
depends, the test raises `Blocked`, so that each violation is reported once.
"""
