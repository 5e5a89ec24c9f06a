"""Work spread over the machines of a Ray cluster. Nothing else imports Ray."""
