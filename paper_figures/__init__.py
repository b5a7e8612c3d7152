"""Records to figures and to report.html; nothing here trains or simulates."""
