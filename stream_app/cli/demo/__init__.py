"""The command `stream-app demo`: real servers, one worker and thirty events."""
