"""The parts that screens are made of; each knows how to draw one thing and nothing of the fleet."""
