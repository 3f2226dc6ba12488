//! Stock plugin of flowgate: flows as lines that conntrack -R can load.
