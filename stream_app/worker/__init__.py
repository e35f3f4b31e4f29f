"""The Faust app that performs what `core` decides, without decisions about data."""
