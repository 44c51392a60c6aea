"""What a person at a terminal sees: tables, progress bars, one line per error. Free of torch and ray."""
