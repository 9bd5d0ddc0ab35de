"""AI Proxy: a gateway between programs and large language models."""

__version__ = "0.1.0"
