"""What answers questions, one file each."""
