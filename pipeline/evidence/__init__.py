"""Pictures and clips of events: kept packets, what is made of them, and where it is stored."""
