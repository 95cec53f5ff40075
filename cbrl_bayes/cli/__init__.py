"""The command line."""

from cbrl_bayes.cli.app import app, main

__all__ = ["app", "main"]
