"""The streaming verbs: SPDY/3.1 and WebSocket protocol code without I/O, and the asyncio edges that run it."""
