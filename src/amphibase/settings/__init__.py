"""What is read from the environment and `.env`: how, and for whom."""
