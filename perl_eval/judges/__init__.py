"""The backends of a judge, all behind one protocol."""
