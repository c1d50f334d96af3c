"""Orders by comment: what somebody says under a show, read and bought."""
