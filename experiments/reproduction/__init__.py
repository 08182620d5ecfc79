"""The papers' results, reproduced on real data beside the authors' figures."""
