"""`python -m ai_proxy …`: the command `ai-proxy`, wherever the package can be imported."""

from ai_proxy.cli import app

if __name__ == "__main__":
    app(prog_name="ai-proxy")
