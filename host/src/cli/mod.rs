//! Command lines: argv becomes settings; nothing below this module sees an option.
