//! Scripts, watchdogs and exporters that read the output.
