"""Tiny real stages for the tests of the assets; found by name because their folder is put on sys.path."""
