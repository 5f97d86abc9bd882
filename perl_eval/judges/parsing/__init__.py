"""From the text of a reply to a verdict or a score."""
