"""What travels: frames, methods, tables, message contents, and the words of refusals."""
