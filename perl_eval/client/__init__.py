"""Requests to model servers: transport, retries, rate limits, usage, ledger. It knows no judge."""
