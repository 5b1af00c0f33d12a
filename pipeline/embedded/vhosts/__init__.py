"""What a virtual host holds, and the way of a message through it."""
