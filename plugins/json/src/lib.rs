//! Stock plugin of flowgate: flows, expectations and statistics as JSON, one object a line.
