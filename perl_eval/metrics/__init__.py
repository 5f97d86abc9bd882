"""From records to estimates: win rates, agreement, corrected rates; and the glossary of figure names."""
