"""Embedded worlds whose truth is known."""
