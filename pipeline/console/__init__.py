"""What a person at a terminal sees: tables, progress bars, one line per fault. Free of torch and ray."""
