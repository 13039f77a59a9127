"""Says yes or no to a run and why, keeps its hosts to it alone, and knows who is asking."""
