"""Parquet files of records, run folders, remote addresses, pictures, progress, workers."""
