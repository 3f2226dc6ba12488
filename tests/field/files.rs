//! Files that are read and written: read once, with limits, without following links.
