"""What a training run would need before it starts: shapes of models, memory, and the commands that serve them."""
