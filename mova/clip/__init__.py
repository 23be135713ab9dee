"""From a request to an MP4."""
