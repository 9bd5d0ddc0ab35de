"""What a call through AI Proxy costs: measured beside nginx and, if wanted, LiteLLM and Portkey, in one run."""
