"""Conversations and votes in a database."""
