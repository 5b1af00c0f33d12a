"""What every part stands on: time, version, weight of messages, and the record of what happens."""
