"""Asking: questions in, ballots out, paced, retried and kept."""
