"""The HTTP API: routers, the parts that they share, and schemas of requests and responses."""
