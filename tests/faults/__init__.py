"""The fault matrix: what may go wrong, what is promised then, and the tests that hold the promise (``make faults``)."""
