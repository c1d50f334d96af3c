"""What livecart is measured beside: the same job, done the usual way."""
