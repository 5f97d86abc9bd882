"""The same verbs past one process: models behind servers, workers on Ray, and what it takes."""
