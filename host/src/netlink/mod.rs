//! ctnetlink: sockets, decoding, encoding, filters.
