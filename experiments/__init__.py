"""Launch files: searches and what they reproduce."""
