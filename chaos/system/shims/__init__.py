"""Folders for the Python path of the processes under test, one each."""
