"""From the first octet of a connection to its last, and the sockets and clock behind it."""
