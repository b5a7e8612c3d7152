"""Other libraries: callbacks for their trainers, text from a run."""
