//! Stock plugin of flowgate: keeps the flows that a selector is about.
