"""Update rules and learning rates by kind of parameter."""
