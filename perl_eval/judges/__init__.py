"""The doors to a judge, all behind one protocol."""
