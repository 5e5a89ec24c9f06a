"""The production service: a page and an API over a bundle."""
