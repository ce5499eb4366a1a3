"""What an enqueue is made of: what is asked for, how safe it is, and the script."""
