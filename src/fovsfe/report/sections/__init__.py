"""What each section of the report says, for the template to lay out."""
