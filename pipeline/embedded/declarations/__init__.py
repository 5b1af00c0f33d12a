"""What the arguments of a declaration may be, in each version of RabbitMQ, and when two of them are the same."""
