//! Stock plugin of flowgate: flows and expectations as the XML of conntrack.
