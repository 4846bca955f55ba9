"""What the tests of all folders share. Fixtures are in the files `conftest.py`."""
