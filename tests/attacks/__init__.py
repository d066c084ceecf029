"""What clients do to harm a server: real servers, attacked for a moment. Bounds are
relative to a run without the attack, or to what the app's config demands."""
