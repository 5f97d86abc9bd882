"""Language models in this process: one backbone with named adapters, its tokens, its samples."""
