"""Training by several processes: the plan, who each process is, and how the model is split among them."""
