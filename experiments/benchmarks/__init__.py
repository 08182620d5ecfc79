"""Speed and quality against peers, measured; figures in README.md here."""
