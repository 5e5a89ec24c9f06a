"""Photos looked at, one after the other, by somebody who corrects their labels."""
