"""One WebSocket below Flask: frames, protocol, waiting, keepalive."""
