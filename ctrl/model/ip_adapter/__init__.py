"""IP-Adapters: style references as terms of cross-attention."""
