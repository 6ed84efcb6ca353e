"""What an image registry tells of an image: its digest, entry point, command, user, environment."""
