"""Verifiable instructions: constraints whose checkers are code, and the prompts that state them."""
