"""livecart: the application; the only place where a wire command and an order meet."""
