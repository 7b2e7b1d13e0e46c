"""Help for the tests of applications; the pytest plugin is in `plugin.py`."""
