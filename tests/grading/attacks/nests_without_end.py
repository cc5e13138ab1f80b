"""A notebook of 100,000 lists inside one another. Against the reader of JSON."""

REFUSED = "not valid JSON"


def notebook(world):
    """Return the text."""
    return '{"nbformat": 4, "cells": ' + "[" * 100_000 + "]" * 100_000 + "}"
