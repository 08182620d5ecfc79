"""What the authors showed, made anew on real data beside their figures."""
