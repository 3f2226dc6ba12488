//! Command lines: numbers, stray words, attached values, empty values, in every option.
