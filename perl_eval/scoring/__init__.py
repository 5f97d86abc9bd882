"""The verbs score, agree, audit and power."""
