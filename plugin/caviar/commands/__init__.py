"""One function a verb: what the command line and the service both call."""
