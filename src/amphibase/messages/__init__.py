"""Messages between callers: who may use a topic, and how they reach its subscribers."""
