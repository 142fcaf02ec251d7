"""The database of conversations and votes."""
