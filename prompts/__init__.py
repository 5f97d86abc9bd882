"""Judge prompts: one question a file."""
