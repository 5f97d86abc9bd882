"""The verb sample: answers of a model in this process or behind a server."""
